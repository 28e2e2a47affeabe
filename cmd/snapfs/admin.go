package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"snapfs/store"
)

// adminPasswordVariable names the file with an admin slot's password.
const adminPasswordVariable = "SNAPFS_ADMIN_PASSWORD_FILE"

func adminFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "admin-password-file", Usage: "read an admin's password from `FILE` (or $" + adminPasswordVariable + "), for what an append-only store allows admins alone"},
	}
}

// adminPasswordFile is where option or environment say that the admin password is, "" if they do not.
func (p *program) adminPasswordFile() string {
	if p.global.adminPasswordFile != "" {
		return p.global.adminPasswordFile
	}
	return p.env.get(adminPasswordVariable)
}

// adminRights unlocks an admin slot of an append-only store: before what takes something away. Without a secret for one
// the command goes on, and the store refuses and records what was tried.
func (p *program) adminRights(ctx context.Context, st *store.Store) error {
	if !st.AppendOnly() {
		return nil
	}
	err := p.unlockAdmin(ctx, st)
	if errors.Is(err, store.ErrNoSlot) {
		return nil
	}
	return err
}

// unlockAdmin opens an admin slot with the admin password file, else with what unlocks the store if that is an admin's,
// else with a password asked for on the terminal. If nothing is to be had, that is no error.
func (p *program) unlockAdmin(ctx context.Context, st *store.Store) error {
	if file := p.adminPasswordFile(); file != "" {
		return st.UnlockAdmin(ctx, func(context.Context, []store.KeySlot) (store.Secret, error) {
			password, err := readPasswordFile(file)
			return store.Secret{Password: password}, givenBy(adminHint, err)
		})
	}
	secret, found, err := p.givenSecret(ctx)
	if err != nil {
		return err
	}
	if found {
		err := st.UnlockAdmin(ctx, func(context.Context, []store.KeySlot) (store.Secret, error) { return secret, nil })
		if !errors.Is(err, store.ErrWrongSecret) && !errors.Is(err, store.ErrNoSlot) {
			return err
		}
	}
	err = st.UnlockAdmin(ctx, func(ctx context.Context, _ []store.KeySlot) (store.Secret, error) {
		password, err := p.askPassword(ctx, "admin password for "+p.global.store+": ")
		return store.Secret{Password: password}, err
	})
	if errors.Is(err, errNoSecret) {
		return nil
	}
	return err
}

// firstAdminSlot is the admin slot of an append-only store to be made.
func (p *program) firstAdminSlot(ctx context.Context) (slot store.NewKeySlot, err error) {
	slot.Role = "admin"
	if file := p.adminPasswordFile(); file != "" {
		slot.Password, err = readPasswordFile(file)
	} else {
		slot.Password, err = p.askNewPassword(ctx, "new admin password for "+p.global.store)
	}
	if err != nil {
		err = givenBy(adminHint, fmt.Errorf("admin password: %w", err))
	}
	return slot, err
}
