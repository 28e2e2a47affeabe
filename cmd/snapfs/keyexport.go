package main

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"snapfs/store"
)

func (p *program) keyExportCommand() *cli.Command {
	return &cli.Command{
		Name: "export", Usage: "print the key slots and the sealed keys, to be kept elsewhere",
		Description: about(`
A store whose directory keys is lost is lost, whoever knows the password. The text printed replaces it; it needs no
password and is worth nothing without one (or a key file or identity), except for a store without encryption.`,
			"snapfs key export > /mnt/stick/store-keys.txt", "snapfs key export | lp"),
		Action: action(0, 0, func(*cli.Context, []string) error { return p.runKeyExport() }),
	}
}

func (p *program) runKeyExport() error {
	dir, err := p.storeDir()
	if err != nil {
		return err
	}
	if _, err := store.KeySlots(dir); err != nil {
		return err
	}
	text, err := store.ExportKeys(dir)
	if err != nil {
		return err
	}
	return p.out.print(string(text))
}

func (p *program) keyImportCommand() *cli.Command {
	return &cli.Command{
		Name: "import", ArgsUsage: "[FILE]", Usage: "put back what export printed",
		Description: about("Reads FILE, or stdin. Slots that are there stay. Keys of another store are refused.",
			"snapfs key import /mnt/stick/store-keys.txt"),
		Action: action(0, 1, func(_ *cli.Context, args []string) error {
			if len(args) == 0 {
				args = []string{"-"}
			}
			return p.runKeyImport(args[0])
		}),
	}
}

func (p *program) runKeyImport(name string) error {
	dir, err := p.storeDir()
	if err != nil {
		return err
	}
	text, err := p.readExported(name)
	if err != nil {
		return fmt.Errorf("exported keys: %w", err)
	}
	return store.ImportKeys(dir, text)
}

func (p *program) readExported(name string) ([]byte, error) {
	in := p.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, secretLimit))
	if err == nil && len(bytes.TrimSpace(text)) == 0 {
		err = fmt.Errorf("%s is empty", name)
	}
	return text, err
}
