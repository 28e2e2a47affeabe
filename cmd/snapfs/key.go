package main

import (
	"context"
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"snapfs/store"
)

func (p *program) keyCommand() *cli.Command {
	return &cli.Command{
		Name: "key", Usage: "list, add, change, remove and keep elsewhere what unlocks the store",
		Description: about(`
Each slot unlocks the store by itself: a password, a key file, or an age or SSH identity. Removing or changing a slot
does not take back what its owner has read, nor slots in copies of the store made before.`,
			"snapfs key list", "snapfs key add --new-password-command 'pass show backup2' --label anna", "snapfs key remove 1a2b3c4d"),
		Subcommands: []*cli.Command{
			p.keyListCommand(), p.keyAddCommand(), p.keyChangeCommand(), p.keyRemoveCommand(), p.keyExportCommand(), p.keyImportCommand(),
		},
	}
}

func (p *program) keyListCommand() *cli.Command {
	return &cli.Command{
		Name: "list", Usage: "list the key slots",
		Description: about("Needs no password.", "snapfs key list", "snapfs key list --json"),
		Action:      action(0, 0, func(*cli.Context, []string) error { return p.runKeyList() }),
	}
}

func (p *program) keyAddCommand() *cli.Command {
	return &cli.Command{
		Name: "add", Usage: "add a key slot",
		Description: about("Without an option that says otherwise, asks for a new password on the terminal. Prints the ID of the new slot.",
			"snapfs key add --label anna",
			"snapfs key add --new-key-file /root/snapfs.key",
			"snapfs key add --recipient \"$(cat ~/.ssh/id_ed25519.pub)\" --label offsite"),
		Flags: append(newSlotFlags(),
			&cli.StringFlag{Name: "label", Usage: "a word about it for people: `L`"},
			&cli.StringFlag{Name: "role", Usage: "`ROLE` of the slot: admin"}),
		Action: action(0, 0, func(c *cli.Context, _ []string) error {
			return p.runKeyAdd(c.Context, readSlotOptions(c))
		}),
	}
}

func (p *program) keyChangeCommand() *cli.Command {
	return &cli.Command{
		Name: "change", ArgsUsage: "ID", Usage: "give a key slot another password, key file or recipient",
		Description: about("The old one no longer unlocks the store.", "snapfs key change 1a2b3c4d", "snapfs key change 1a2b3c4d --new-password-file /root/new"),
		Flags:       newSlotFlags(),
		Action: action(1, 1, func(c *cli.Context, args []string) error {
			return p.runKeyChange(c.Context, args[0], readSlotOptions(c))
		}),
	}
}

func (p *program) keyRemoveCommand() *cli.Command {
	return &cli.Command{
		Name: "remove", ArgsUsage: "ID", Usage: "remove a key slot",
		Description: about("The last one cannot be removed.", "snapfs key remove 1a2b3c4d"),
		Action: action(1, 1, func(c *cli.Context, args []string) error {
			return p.runKeyRemove(c.Context, args[0])
		}),
	}
}

func newSlotFlags() []cli.Flag {
	return append(newSecretFlags(),
		&cli.StringFlag{Name: "recipient", Usage: "make a slot for the owner of `R`, an age or SSH public key"})
}

// slotOptions says what a new slot is to be.
type slotOptions struct {
	secrets                secretFlags
	recipient, label, role string
}

func readSlotOptions(c *cli.Context) slotOptions {
	return slotOptions{readSecretFlags(c, "new-"), c.String("recipient"), c.String("label"), c.String("role")}
}

func (o slotOptions) check() error {
	if err := o.secrets.check(); err != nil || o.secrets.any() && o.recipient != "" {
		return usagef("give only one of --new-password-file, --new-password-command, --new-key-file and --recipient")
	}
	if o.role != "" && o.role != "admin" {
		return usagef("--role wants admin, not %q", o.role)
	}
	return nil
}

// keyObject is a key slot in JSON.
type keyObject struct {
	ID      string `json:"id"`
	Kind    string `json:"kind"`
	Label   string `json:"label"`
	Role    string `json:"role"`
	Created string `json:"created"`
	Problem string `json:"problem,omitempty"` // why it unlocks nothing
}

func newKeyObject(s store.KeySlot) keyObject {
	return keyObject{s.ID, string(s.Kind), s.Label, s.Role, jsonTime(s.Created), s.Problem}
}

func (p *program) runKeyList() error {
	dir, err := p.storeDir()
	if err != nil {
		return err
	}
	slots, err := store.KeySlots(dir)
	if err != nil {
		return err
	}
	if p.global.json {
		objects := []keyObject{}
		for _, s := range slots {
			objects = append(objects, newKeyObject(s))
		}
		return p.out.object(objects)
	}
	t := newTable("ID", "KIND", "CREATED", "ROLE", "LABEL")
	for _, s := range slots {
		created := ""
		if !s.Created.IsZero() {
			created = p.localTime(s.Created)
		}
		t.add(s.ID, p.out.name(string(s.Kind)), created, p.out.name(s.Role), p.out.name(s.Label))
	}
	if err := t.write(p.out); err != nil {
		return err
	}
	p.saySpoilt(slots)
	return nil
}

// saySpoilt names the slots that unlock nothing.
func (p *program) saySpoilt(slots []store.KeySlot) {
	for _, s := range slots {
		if s.Problem != "" && !p.global.quiet {
			p.say("slot %s cannot be used: %s", s.ID, escape(s.Problem))
		}
	}
}

func (p *program) runKeyAdd(ctx context.Context, o slotOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	return p.withStore(ctx, "key add", func(st *store.Store) error {
		if err := p.adminForSlots(ctx, st, o.role == "admin"); err != nil {
			return err
		}
		return p.withNewSlot(ctx, o, func(n store.NewKeySlot) (store.KeySlot, error) { return st.AddSlot(ctx, n) })
	})
}

func (p *program) runKeyChange(ctx context.Context, id string, o slotOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	return p.withStore(ctx, "key change", func(st *store.Store) error {
		if err := p.adminForSlots(ctx, st, isAdminSlot(st, id)); err != nil {
			return err
		}
		return p.withNewSlot(ctx, o, func(n store.NewKeySlot) (store.KeySlot, error) { return st.ChangeSlot(ctx, id, n) })
	})
}

func (p *program) runKeyRemove(ctx context.Context, id string) error {
	return p.withStore(ctx, "key remove", func(st *store.Store) error {
		if err := p.adminForSlots(ctx, st, st.AppendOnly() && isAdminSlot(st, id)); err != nil {
			return err
		}
		return st.RemoveSlot(ctx, id)
	})
}

// isAdminSlot reports whether a slot is an admin's.
func isAdminSlot(st *store.Store, id string) bool {
	slots, err := store.KeySlots(st.Dir())
	return err == nil && slices.ContainsFunc(slots, func(s store.KeySlot) bool { return s.ID == id && s.Role == "admin" })
}

// adminForSlots unlocks an admin slot where a change of slots needs that and there is one.
func (p *program) adminForSlots(ctx context.Context, st *store.Store, needed bool) error {
	if !needed {
		return nil
	}
	slots, err := store.KeySlots(st.Dir())
	if err != nil || !slices.ContainsFunc(slots, func(s store.KeySlot) bool { return s.Role == "admin" }) {
		return err
	}
	return p.unlockAdmin(ctx, st)
}

// withNewSlot collects the secret of a new slot, hands it to make and prints what that gives.
func (p *program) withNewSlot(ctx context.Context, o slotOptions, make func(store.NewKeySlot) (store.KeySlot, error)) error {
	n, undo, err := p.newSlot(ctx, o)
	if err != nil {
		return err
	}
	slot, err := make(n)
	switch {
	case err != nil && slot.ID != "": // it is there, and wants its key file
		return err
	case err != nil:
		if slot.ID == "" { // else the slot is there, and that file may be all that opens the store
			undo()
		}
		return err
	case p.global.json:
		return p.out.object(newKeyObject(slot))
	}
	return p.out.print(slot.ID + "\n")
}

// newSlot finds the secret of a new slot; undo removes a key file that was made for it.
func (p *program) newSlot(ctx context.Context, o slotOptions) (n store.NewKeySlot, undo func(), err error) {
	n, undo = store.NewKeySlot{Label: o.label, Role: o.role}, func() {}
	switch {
	case o.recipient != "":
		n.Recipient = o.recipient
		return n, undo, nil
	case o.secrets.keyFile != "":
		var made bool
		if n.KeyFile, made, err = makeKeyFile(o.secrets.keyFile); made {
			undo = func() { os.Remove(o.secrets.keyFile) }
		}
		return n, undo, err
	}
	var found bool
	n.Password, found, err = p.newPassword(ctx, o.secrets)
	if !found && err == nil {
		n.Password, err = p.askNewPassword(ctx, "new password for "+p.global.store)
	}
	return n, undo, err
}
