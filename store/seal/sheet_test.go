package seal

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWordList(t *testing.T) {
	l := newWordList()
	if len(l.words) != 1<<wordBits || crc32.ChecksumIEEE([]byte(english)) != 0xc1dbd296 {
		t.Fatalf("%d words, CRC-32 %x", len(l.words), crc32.ChecksumIEEE([]byte(english)))
	}
	for i, w := range l.words {
		for _, form := range []string{w, w[:min(len(w), 4)], strings.ToUpper(w)} {
			if n, ok := l.find(form); !ok || n != i {
				t.Fatalf("%s: %d, %v", form, n, ok)
			}
		}
	}
	for typed, want := range map[string]string{"abandn": "abandon", "zooo": "zoo", "recieve": "receive", "wrod": "word"} {
		if near := l.nearest(typed, 3); len(near) == 0 || near[0] != want && near[1] != want {
			t.Errorf("%s: %q", typed, near)
		}
	}
}

// sampleSheet is a text with its sheet.
func sampleSheet(t testing.TB, n int) (text []byte, sheet string) {
	t.Helper()
	rng := rand.NewChaCha8([32]byte{byte(n)})
	random := make([]byte, n)
	_, _ = rng.Read(random)
	text = fmt.Appendf(nil, "%s 1\n%x\n", slotMagic, random)
	sheet, err := Sheet(text)
	if err != nil {
		t.Fatal(err)
	}
	return text, sheet
}

func TestSheet(t *testing.T) {
	for n := range 60 {
		text, sheet := sampleSheet(t, n*7)
		for name, typed := range map[string]string{
			"as printed": sheet, "under a heading": "Keys of x\nslot 12345678 password\n\n" + sheet, "capitals": strings.ToUpper(sheet),
			"windows": strings.ReplaceAll(sheet, "\n", "\r\n"), "dots": strings.ReplaceAll(sheet, "  client", ". client"), "short": shortened(sheet),
		} {
			got, err := ReadSheet([]byte(typed))
			if err != nil || !bytes.Equal(got, text) {
				t.Fatalf("%d bytes, %s: %v\n%s", n*7, name, err, typed)
			}
		}
	}
}

// shortened is what a lazy person types.
func shortened(sheet string) string {
	fields := strings.Split(sheet, " ")
	for i, f := range fields {
		if len(f) > 4 && !strings.Contains(f, "\n") {
			fields[i] = f[:4]
		}
	}
	return strings.Join(fields, " ")
}

// TestSheetMistakes: every single slip is found, in its line.
func TestSheetMistakes(t *testing.T) {
	_, sheet := sampleSheet(t, 100)
	lines := strings.Split(strings.TrimSpace(sheet), "\n")
	list := newWordList()
	rng := rand.New(rand.NewPCG(1, 1))
	other := func(lines []string) string { return strings.Join(lines, "\n") }
	for i := range lines[:len(lines)-1] {
		where := fmt.Sprintf("line %d", i+1)
		change := func(f func(words []string) []string) string {
			changed := append([]string(nil), lines...)
			fields := strings.Fields(lines[i])
			changed[i] = fields[0] + " " + strings.Join(f(fields[1:]), " ")
			return other(changed)
		}
		for name, typed := range map[string]string{
			"misspelt":  change(func(w []string) []string { w[0] = "q" + w[0] + "q"; return w }),
			"word more": change(func(w []string) []string { return append(w, "zoo", "zoo", "zoo") }),
			"word less": change(func(w []string) []string { return w[:len(w)-1] }),
			"missing":   other(append(append([]string(nil), lines[:i]...), lines[i+1:]...)),
		} {
			checkMistake(t, name, typed, where+[]string{":", ", word 1:"}[btoi(name == "misspelt")])
		}
		for range 10 {
			var was, now string
			typed := change(func(w []string) []string {
				k := rng.IntN(len(w))
				was, now = w[k], list.words[rng.IntN(2048)]
				w[k] = now
				return w
			})
			if _, err := ReadSheet([]byte(typed)); was != now && !errors.Is(err, ErrSheet) {
				t.Errorf("%s: %s for %s passes", where, now, was)
			}
		}
	}
	swapped := append([]string(nil), lines...)
	a, b := strings.Fields(lines[2]), strings.Fields(lines[3])
	swapped[2], swapped[3] = a[0]+" "+strings.Join(b[1:], " "), b[0]+" "+strings.Join(a[1:], " ")
	checkMistake(t, "lines swapped", other(swapped), "line 3:")
	words := strings.Fields(lines[4])
	words[1], words[2] = words[2], words[1]
	checkMistake(t, "words swapped", strings.Replace(sheet, strings.TrimSpace(lines[4]), strings.Join(words, " "), 1), "words 1 and 2 the other way round")
	checkMistake(t, "no end", other(lines[:len(lines)-1]), "last line is missing")
	checkMistake(t, "nothing", "hello\n", "no numbered lines")
	checkMistake(t, "empty", "", "no numbered lines")
	checkMistake(t, "twice", other(append(lines[:len(lines):len(lines)], "1 "+strings.Repeat("abandon ", 7)+list.words[checkWord(1, make([]int, 7))])), "line 1: is there twice")
	_, second := sampleSheet(t, 101)
	mixed := strings.Split(strings.TrimSpace(second), "\n")
	mixed[5] = lines[5]
	checkMistake(t, "two sheets", other(mixed), "do not belong together")
	checkMistake(t, "a slip that could be another word", strings.Replace(sheet, lines[1], nearMiss(list, lines[1]), 1), "it would fit with")
}

// nearMiss replaces a word of a line by one that looks like it.
func nearMiss(list *wordList, line string) string {
	fields := strings.Fields(line)
	for i := 1; i < len(fields); i++ {
		if near := list.within(fields[i], 1, 1); len(near) > 0 {
			fields[i] = near[0]
			break
		}
	}
	return strings.Join(fields, " ")
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func checkMistake(t *testing.T, name, typed, want string) {
	t.Helper()
	_, err := ReadSheet([]byte(typed))
	if !errors.Is(err, ErrSheet) || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v, want %q", name, err, want)
	}
}

func TestImportSheet(t *testing.T) {
	key := random(keySize)
	dir, b := newKeys(t, NewSlot{KeyFile: key}, NewSlot{Password: []byte("x")})
	text, err := Export(dir)
	must(t, err)
	sheet, err := Sheet(text)
	must(t, err)
	lost := filepath.Join(t.TempDir(), "keys")
	wantErr(t, Import(lost, []byte(strings.Replace(sheet, "   2  ", "   3  ", 1))), ErrSheet)
	if _, err := os.Stat(lost); err == nil {
		t.Error("a sheet with a mistake was written")
	}
	must(t, Import(lost, []byte(shortened(sheet))))
	if !sameKeys(opens(t, lost, Secret{KeyFile: key}), b) || !sameKeys(opens(t, lost, Secret{Password: []byte("x")}), b) {
		t.Error("imported keys are others")
	}
	other, _ := newKeys(t, NewSlot{Clear: true})
	wantErr(t, Import(other, []byte(sheet)), ErrForeign)
}

func FuzzReadSheet(f *testing.F) {
	_, sheet := sampleSheet(f, 50)
	f.Add([]byte(sheet))
	f.Add([]byte("1 abandon abandon\nend 1 zoo zoo zoo"))
	f.Add([]byte("9999 zoo"))
	f.Fuzz(func(t *testing.T, typed []byte) {
		text, err := ReadSheet(typed)
		if err != nil {
			if !errors.Is(err, ErrSheet) {
				t.Fatal(err)
			}
			return
		}
		again, err := Sheet(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ReadSheet([]byte(again)); err != nil || !bytes.Equal(got, text) {
			t.Fatalf("%q comes back as %q, %v", text, got, err)
		}
	})
}

// FuzzExport: the files that import takes are all that the text has.
func FuzzExport(f *testing.F) {
	dir, _ := newKeys(f, NewSlot{KeyFile: make([]byte, keySize)}, NewSlot{Clear: true})
	text, err := Export(dir)
	must(f, err)
	f.Add(text)
	f.Add(text[:len(text)-1])
	f.Add(append(text[:len(text):len(text)], text...))
	f.Fuzz(func(t *testing.T, text []byte) {
		files, _, err := parseExport(text)
		if err != nil {
			return
		}
		length := 0
		for _, file := range files {
			length += len(file.data)
			if strings.ContainsAny(file.name, "/\x00") {
				t.Errorf("a file named %q", file.name)
			}
		}
		if length != len(text) {
			t.Errorf("files of %d bytes in %d", length, len(text))
		}
	})
}
