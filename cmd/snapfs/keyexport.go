package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"snapfs/store"
)

func (p *program) keyExportCommand() *cli.Command {
	return &cli.Command{
		Name: "export", Usage: "print the key slots and the sealed keys as words, to be kept elsewhere",
		Description: about(`
A store whose directory keys is lost is lost, whoever knows the password. The sheet printed replaces it: numbered
lines of words, each with a word that checks it, that 'snapfs key import' takes from a file or typed in again. It
needs no password and is worth nothing without one (or a key file or identity), except for a store without
encryption: keep that one secret. Print it anew after slots have been added or changed.`,
			"snapfs key export > /mnt/stick/store-keys.txt", "snapfs key export | lp"),
		Action: action(0, 0, func(*cli.Context, []string) error { return p.runKeyExport() }),
	}
}

func (p *program) runKeyExport() error {
	dir, err := p.storeDir()
	if err != nil {
		return err
	}
	slots, err := store.KeySlots(dir)
	if err != nil {
		return err
	}
	words, err := store.KeySheet(dir)
	if err != nil {
		return err
	}
	p.saySpoilt(slots)
	return p.out.print(p.sheetHead(slots) + words)
}

// sheetHead is what stands above the words, for who finds the sheet. No line begins with a number alone: those are the words'.
func (p *program) sheetHead(slots []store.KeySlot) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Keys of the snapfs store in %s\nPrinted %s by %s\n\n", escape(p.global.store), p.now().In(p.zone).Format("2006-01-02"), programName())
	b.WriteString("What opens the store together with this sheet:\n")
	clear := false
	for _, s := range slots {
		if s.Problem != "" { // it is not among the words
			continue
		}
		clear = clear || s.Kind == store.SlotClear
		fmt.Fprintf(&b, "  slot %s  %s  made %s", s.ID, s.Kind, s.Created.In(p.zone).Format("2006-01-02"))
		if s.Label != "" {
			fmt.Fprintf(&b, "  %s", escape(s.Label))
		}
		b.WriteString("\n")
	}
	if clear {
		b.WriteString("THE STORE IS NOT ENCRYPTED: this sheet alone opens it.\n")
	}
	b.WriteString(`
If the directory 'keys' of the store is lost: snapfs --store DIR key import FILE
FILE holds the lines below, typed in again, with their numbers. The first four letters of a word are enough. The last
word of each line checks it, so a mistake is found in its line.

`)
	return b.String()
}

func (p *program) keyImportCommand() *cli.Command {
	return &cli.Command{
		Name: "import", ArgsUsage: "[FILE]", Usage: "put back what export printed",
		Description: about(`
Reads FILE, or stdin: a sheet as it was printed, or its numbered lines typed in again. Mistakes are told with their
line and the words that could be meant; nothing is written then. Slots that are there stay. Keys of another store
are refused. If nothing but the directory 'volumes' is left of the store, 'snapfs rebuild' goes next.`,
			"snapfs key import /mnt/stick/store-keys.txt", "snapfs key import < typed.txt"),
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
