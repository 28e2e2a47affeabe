package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"snapfs/store"
)

type initOptions struct {
	secrets      secretFlags // --new-...
	noEncryption bool
	appendOnly   bool
	chunkAverage int64
	compression  store.Compression
	parity       string
}

func (p *program) initCommand() *cli.Command {
	return &cli.Command{
		Name: "init", Usage: "make a store",
		Description: about(`
Makes a store in the directory that --store names, which must be missing or empty. The store is encrypted; what
unlocks it is a password, asked for twice on the terminal or taken from where the options say, or a key file.
With --new-key-file and no password the key file is all that unlocks the store: keep a copy of it elsewhere.
In a store made with --append-only, forgetting, releasing holds and giving space back need an admin's password. That
resists mistakes and misuse through snapfs, not somebody who may delete the store's files.

What is stored gets parity, from which 'verify --repair' restores what a bad disk has damaged: with 3 percent any run of
1 MiB in each 64 MiB, and single bytes. It needs no key for that.`,
			"snapfs --store /backup/store init",
			"snapfs --store /backup/store init --new-key-file /root/snapfs.key",
			"snapfs --store /backup/store init --new-password-command 'pass show backup'",
			"snapfs --store /backup/store init --append-only --admin-password-file /media/stick/admin"),
		Flags: append(newSecretFlags(),
			&cli.BoolFlag{Name: "append-only", Usage: "let only admins remove anything, now and ever: --admin-password-file gives the first one's password"},
			&cli.BoolFlag{Name: "no-encryption", Usage: "let everybody who can read the store's files read what is in it"},
			&cli.StringFlag{Name: "chunk-average", Usage: "average `SIZE` of the pieces that large files are cut into (default: 512K)"},
			&cli.StringFlag{Name: "parity", Usage: "`PERCENT` of what is stored is added so that damage can be repaired, 0 to 25; 0: nothing", Value: "3"},
			&cli.StringFlag{Name: "compression", Usage: "`LEVEL`: none, s2, fastest, default or better", Value: string(store.CompressionFastest)},
		),
		Action: action(0, 0, func(c *cli.Context, _ []string) error {
			o := initOptions{
				secrets: readSecretFlags(c, "new-"), noEncryption: c.Bool("no-encryption"), appendOnly: c.Bool("append-only"),
				compression: store.Compression(c.String("compression")), parity: c.String("parity"),
			}
			if s := c.String("chunk-average"); s != "" {
				var err error
				if o.chunkAverage, err = parseSize(s); err != nil {
					return err
				}
			}
			return p.runInit(c.Context, o)
		}),
	}
}

var compressions = []store.Compression{
	store.CompressionNone, store.CompressionS2, store.CompressionFastest, store.CompressionDefault, store.CompressionBetter,
}

// What store.Init takes; beyond it the command line is wrong, not the store.
const (
	leastChunkAverage = 16 << 10
	mostChunkAverage  = 4 << 20
)

func powerOfTwo(n, least, most int64) bool { return n&(n-1) == 0 && least <= n && n <= most }

func (o *initOptions) check(admin string) error {
	switch {
	case !slices.Contains(compressions, o.compression):
		return usagef("unknown compression %q: want none, s2, fastest, default or better", o.compression)
	case o.chunkAverage != 0 && !powerOfTwo(o.chunkAverage, leastChunkAverage, mostChunkAverage):
		return usagef("--chunk-average wants a power of two from 16K to 4M")
	case admin != "" && !o.appendOnly:
		return usagef("--admin-password-file is for --append-only")
	case o.secrets.passwordFile != "" && o.secrets.passwordCommand != "":
		return usagef("give only one of --new-password-file and --new-password-command")
	}
	return nil
}

func (p *program) runInit(ctx context.Context, o initOptions) error {
	if err := o.check(p.global.adminPasswordFile); err != nil {
		return err
	}
	dir, err := p.storeDir()
	if err != nil {
		return err
	}
	if err := refuseUsed(dir); err != nil {
		return err
	}
	parity, err := parseParity(o.parity)
	if err != nil {
		return err
	}
	slots, undo, err := p.firstSlots(ctx, o)
	if err == nil && o.appendOnly {
		slots, err = p.withAdminSlot(ctx, slots)
	}
	if err != nil {
		undo()
		return err
	}
	err = store.Init(ctx, dir, store.InitOptions{
		Slots: slots, ChunkAverage: int(o.chunkAverage), Compression: o.compression, Parity: parity, AppendOnly: o.appendOnly,
		Program: programName(),
	})
	if err != nil {
		undo()
		return err
	}
	if p.global.json {
		return p.out.object(map[string]any{"store": dir, "encrypted": !o.noEncryption, "append_only": o.appendOnly})
	}
	if p.global.quiet {
		return nil
	}
	kind := "an encrypted store"
	if o.noEncryption {
		kind = "a store without encryption"
	}
	if o.appendOnly {
		kind += ", append-only,"
	}
	return p.out.printf("made %s in %s\n", kind, p.out.name(dir))
}

// withAdminSlot adds the first admin's slot. A password that opens another slot as well would make everybody an admin.
func (p *program) withAdminSlot(ctx context.Context, slots []store.NewKeySlot) ([]store.NewKeySlot, error) {
	admin, err := p.firstAdminSlot(ctx)
	if err != nil {
		return slots, err
	}
	for _, s := range slots {
		if s.Password != nil && bytes.Equal(s.Password, admin.Password) {
			return slots, usagef("the admin password must be another one than the password")
		}
	}
	return append(slots, admin), nil
}

// parseParity reads the PERCENT of --parity, with or without its sign, as store.InitOptions wants it.
func parseParity(s string) (int, error) {
	n, err := strconv.ParseUint(strings.TrimSuffix(s, "%"), 10, 8)
	switch {
	case err != nil || n > store.MaxParity:
		return 0, usagef("--parity wants whole percent from 0 to %d, not %q", store.MaxParity, s)
	case n == 0:
		return store.NoParity, nil
	}
	return int(n), nil
}

// refuseUsed answers before a password is asked for what store.Init would refuse.
func refuseUsed(dir string) error {
	if _, err := store.KeySlots(dir); err == nil {
		return fmt.Errorf("%s: %w", dir, store.ErrStoreExists)
	}
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case len(entries) > 0:
		return fmt.Errorf("%s: %w", dir, store.ErrNotEmpty)
	}
	return nil
}

// firstSlots collects what shall unlock the store; undo removes a key file that was made for it.
func (p *program) firstSlots(ctx context.Context, o initOptions) (slots []store.NewKeySlot, undo func(), err error) {
	undo = func() {}
	if o.noEncryption {
		if o.secrets.any() || p.global.unlock.any() {
			return nil, undo, usagef("--no-encryption and a password or key exclude each other")
		}
		return []store.NewKeySlot{{Clear: true}}, undo, nil
	}
	password, err := p.firstPassword(ctx, o)
	if err != nil {
		return nil, undo, err
	}
	slots = append(slots, password...)
	if o.secrets.keyFile != "" {
		key, made, err := makeKeyFile(o.secrets.keyFile)
		if err != nil {
			return nil, undo, err
		}
		if made {
			undo = func() { os.Remove(o.secrets.keyFile) }
		}
		slots = append(slots, store.NewKeySlot{KeyFile: key})
	}
	return slots, undo, nil
}

// firstPassword is the slot for what options or environment give, or for what is asked when nothing else will
// unlock the store.
func (p *program) firstPassword(ctx context.Context, o initOptions) ([]store.NewKeySlot, error) {
	password, found, err := p.newPassword(ctx, o.secrets)
	if err != nil {
		return nil, err
	}
	if found {
		return []store.NewKeySlot{{Password: password}}, nil
	}
	if o.secrets.keyFile != "" {
		return p.passwordBeside(ctx)
	}
	given, found, err := p.givenSecret(ctx)
	switch {
	case err != nil:
		return nil, err
	case found && given.Identity != nil:
		return nil, &usageError{
			msg: "an identity cannot be the first key slot", hint: "make the store with a password, then 'snapfs key add --recipient'",
		}
	case found:
		return []store.NewKeySlot{{Password: given.Password, KeyFile: given.KeyFile}}, nil
	}
	password, err = p.askNewPassword(ctx, "new password for "+p.global.store)
	return []store.NewKeySlot{{Password: password}}, err
}

// passwordBeside is the slot for a password that was given beside --new-key-file. A key file in the environment is no
// password: it will be the new one.
func (p *program) passwordBeside(ctx context.Context) ([]store.NewKeySlot, error) {
	if p.global.unlock.keyFile != "" || p.global.unlock.identityFile != "" {
		return nil, usagef("--new-key-file and --key-file or --identity-file exclude each other")
	}
	if f := p.environmentSecret(); p.global.unlock == (secretFlags{}) && (f.keyFile != "" || f.identityFile != "") {
		return nil, nil
	}
	given, found, err := p.givenSecret(ctx)
	if err != nil || !found {
		return nil, err
	}
	return []store.NewKeySlot{{Password: given.Password}}, nil
}

// newKeyFileError: a file that is there cannot become a key. It is about the file, not about unlocking.
type newKeyFileError struct{ err error }

func (e *newKeyFileError) Error() string {
	return strings.TrimPrefix(e.err.Error(), errNoSecret.Error()+": ")
}

// makeKeyFile reads a key file, or makes it where it is missing.
func makeKeyFile(path string) (key []byte, made bool, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		if key, err = readKeyFile(path); err != nil {
			err = &newKeyFileError{err}
		}
		return key, false, err
	}
	if err != nil {
		return nil, false, fmt.Errorf("key file: %w", err)
	}
	key = make([]byte, keyFileSize)
	rand.Read(key)
	_, err = f.Write(key)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		os.Remove(path)
		return nil, false, fmt.Errorf("key file %s: %w", path, err)
	}
	if d, err := os.Open(filepath.Dir(path)); err == nil {
		_ = d.Sync() // its name lasts before a slot needs it, where the file system knows how
		_ = d.Close()
	}
	return key, true, nil
}
