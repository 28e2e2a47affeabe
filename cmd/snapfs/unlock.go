package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"

	"github.com/urfave/cli/v2"

	"snapfs/store"
)

// errNoSecret: no password, key or identity to be had.
var errNoSecret = errors.New("no password to be had")

// Options that give a new slot's secret.
const (
	newSecretHint = "give --new-password-file, --new-password-command or --new-key-file, or set $SNAPFS_NEW_PASSWORD"
	adminHint     = "give --admin-password-file, or set $" + adminPasswordVariable
)

// secretError is an errNoSecret with the options that give this secret: not those that unlock a store.
type secretError struct {
	error
	hint string
}

func (e *secretError) Unwrap() error { return e.error }

// givenBy adds the options to an errNoSecret.
func givenBy(hint string, err error) error {
	if errors.Is(err, errNoSecret) {
		return &secretError{err, hint}
	}
	return err
}

// secretFlags are the options that say where a secret is. At most one may be set.
type secretFlags struct {
	passwordFile, passwordCommand, keyFile, identityFile string
}

func unlockFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "password-file", Usage: "read the password from `FILE` (or $SNAPFS_PASSWORD_FILE)"},
		&cli.StringFlag{Name: "password-command", Usage: "read the password from the output of `COMMAND` (or $SNAPFS_PASSWORD_COMMAND)"},
		&cli.StringFlag{Name: "key-file", Usage: "unlock with `FILE`, 32 random bytes (or $SNAPFS_KEY_FILE)"},
		&cli.StringFlag{Name: "identity-file", Usage: "unlock with the age or SSH identity in `FILE` (or $SNAPFS_IDENTITY_FILE)"},
	}
}

// newSecretFlags are the options for new slots.
func newSecretFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "new-password-file", Usage: "read the new password from `FILE`"},
		&cli.StringFlag{Name: "new-password-command", Usage: "read the new password from the output of `COMMAND`"},
		&cli.StringFlag{Name: "new-key-file", Usage: "make a slot for the key in `FILE`, which is made (32 random bytes, mode 0600) if it is missing"},
	}
}

// readSecretFlags reads one of the two sets; prefix is "" or "new-".
func readSecretFlags(c *cli.Context, prefix string) secretFlags {
	f := secretFlags{
		passwordFile:    c.String(prefix + "password-file"),
		passwordCommand: c.String(prefix + "password-command"),
		keyFile:         c.String(prefix + "key-file"),
	}
	if prefix == "" {
		f.identityFile = c.String("identity-file")
	}
	return f
}

// check refuses more than one.
func (f secretFlags) check() error {
	set := 0
	for _, s := range []string{f.passwordFile, f.passwordCommand, f.keyFile, f.identityFile} {
		if s != "" {
			set++
		}
	}
	if set > 1 {
		return usagef("give only one of --password-file, --password-command, --key-file and --identity-file")
	}
	return nil
}

func (f secretFlags) any() bool { return f != secretFlags{} }

// unlocker finds the secret for an existing store: options, then the environment, then the terminal.
func (p *program) unlocker(ctx context.Context, slots []store.KeySlot) (store.Secret, error) {
	return p.unlock(ctx, slots, p.global.store)
}

// archiveUnlocker does the same for volumes that carry their slots.
func (p *program) archiveUnlocker(ctx context.Context, slots []store.KeySlot) (store.Secret, error) {
	return p.unlock(ctx, slots, "the archive")
}

// unlock finds the secret for what is called so.
func (p *program) unlock(ctx context.Context, slots []store.KeySlot, what string) (store.Secret, error) {
	secret, found, err := p.givenSecret(ctx)
	p.stretched = len(secret.Password) > 0
	if found || err != nil {
		return secret, err
	}
	if !slices.ContainsFunc(slots, func(s store.KeySlot) bool { return s.Kind == store.SlotPassword }) {
		return secret, fmt.Errorf("%w: %s has no password, only a key file or an identity opens it", errNoSecret, what)
	}
	secret.Password, err = p.askPassword(ctx, "password for "+what+": ")
	p.stretched = true
	return secret, err
}

// givenSecret takes what options or environment name.
func (p *program) givenSecret(ctx context.Context) (s store.Secret, found bool, err error) {
	for _, f := range []secretFlags{p.global.unlock, p.environmentSecret()} {
		if f.any() {
			s, err = p.readSecret(ctx, f)
			return s, true, err
		}
	}
	if given := p.env.get("SNAPFS_PASSWORD"); given != "" {
		s.Password, err = password([]byte(given), "$SNAPFS_PASSWORD")
		return s, true, err
	}
	return s, false, nil
}

// readSecret reads what the first option that is set names.
func (p *program) readSecret(ctx context.Context, f secretFlags) (s store.Secret, err error) {
	switch {
	case f.passwordFile != "":
		s.Password, err = readPasswordFile(f.passwordFile)
	case f.passwordCommand != "":
		s.Password, err = p.passwordFromCommand(ctx, f.passwordCommand)
	case f.keyFile != "":
		s.KeyFile, err = readKeyFile(f.keyFile)
	case f.identityFile != "":
		s.Identity, err = readSecretFile(f.identityFile)
	}
	return s, err
}

// environmentSecret is the first the environment names.
func (p *program) environmentSecret() (f secretFlags) {
	for _, v := range []struct {
		name string
		dst  *string
	}{
		{"SNAPFS_PASSWORD_FILE", &f.passwordFile}, {"SNAPFS_PASSWORD_COMMAND", &f.passwordCommand},
		{"SNAPFS_KEY_FILE", &f.keyFile}, {"SNAPFS_IDENTITY_FILE", &f.identityFile},
	} {
		if *v.dst = p.env.get(v.name); *v.dst != "" {
			return f
		}
	}
	return f
}

// newPassword finds the password for a new slot where options or environment name one.
func (p *program) newPassword(ctx context.Context, f secretFlags) (secret []byte, found bool, err error) {
	switch {
	case f.passwordFile != "":
		secret, err = readPasswordFile(f.passwordFile)
	case f.passwordCommand != "":
		secret, err = p.passwordFromCommand(ctx, f.passwordCommand)
	case p.env.get("SNAPFS_NEW_PASSWORD") != "":
		secret, err = password([]byte(p.env.get("SNAPFS_NEW_PASSWORD")), "$SNAPFS_NEW_PASSWORD")
	default:
		return nil, false, nil
	}
	return secret, true, givenBy(newSecretHint, err)
}

// askNewPassword asks twice.
func (p *program) askNewPassword(ctx context.Context, prompt string) ([]byte, error) {
	password, err := p.askTwice(ctx, prompt)
	return password, givenBy(newSecretHint, err)
}

func (p *program) askTwice(ctx context.Context, prompt string) ([]byte, error) {
	first, err := p.askPassword(ctx, prompt+": ")
	if err != nil {
		return nil, err
	}
	again, err := p.askPassword(ctx, prompt+" again: ")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, again) {
		return nil, fmt.Errorf("%w: the two passwords differ", errNoSecret)
	}
	return first, nil
}

func readPasswordFile(path string) ([]byte, error) {
	data, err := readSecretFile(path)
	if err != nil {
		return nil, err
	}
	return password(data, path)
}

func (p *program) passwordFromCommand(ctx context.Context, command string) ([]byte, error) {
	cmd := p.child(ctx, nil, "bash", "-c", command)
	cmd.Stdin = p.stdin
	out := limitedBuffer{left: secretLimit}
	cmd.Stdout = &out
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case out.left < 0:
		return nil, fmt.Errorf("%w: password command: it does not end after %d bytes", errNoSecret, secretLimit)
	case err != nil && !errors.Is(err, exec.ErrWaitDelay): // an agent that was started may keep the output open
		return nil, fmt.Errorf("%w: password command: %w", errNoSecret, err)
	}
	return password(out.data, "password command")
}

// limitedBuffer takes so much and refuses the rest, which ends who writes.
type limitedBuffer struct {
	data []byte
	left int
}

func (b *limitedBuffer) Write(data []byte) (int, error) {
	if b.left -= len(data); b.left < 0 {
		return 0, io.ErrShortWrite
	}
	b.data = append(b.data, data...)
	return len(data), nil
}

// password strips one trailing newline and refuses what is empty.
func password(data []byte, from string) ([]byte, error) {
	if data = bytes.TrimSuffix(data, []byte("\n")); len(data) == 0 {
		return nil, fmt.Errorf("%w: %s: the password is empty", errNoSecret, from)
	}
	return data, nil
}

// secretLimit is more than any password, key or identity file has; a mistyped name shall not fill the memory.
const secretLimit = 1 << 20

func readSecretFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoSecret, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, secretLimit))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoSecret, err)
	}
	return data, nil
}

// keyFileSize is what a key file has, bytes.
const keyFileSize = 32

func readKeyFile(path string) ([]byte, error) {
	data, err := readSecretFile(path)
	if err == nil && len(data) != keyFileSize {
		err = fmt.Errorf("%w: key file %s has %d bytes and not %d", errNoSecret, path, len(data), keyFileSize)
	}
	return data, err
}
