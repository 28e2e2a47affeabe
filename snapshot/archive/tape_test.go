package archive

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"snapfs/store"
)

// tapes are a drive that takes blocks of one size, with tapes of one length that end unannounced. What was written is in files of a directory.
type tapes struct {
	dir    string
	block  int64
	length int64 // 0: for ever
	n      int
	known  bool // how long they are
}

func (d *tapes) Open(context.Context, Slot) (Medium, error) {
	d.n++
	f, err := os.OpenFile(filepath.Join(d.dir, fmt.Sprintf("tape%d%s", d.n, Suffix)), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	m := &blockMedium{w: &onTape{f, d.block, d.length}, where: "/dev/nst0", block: d.block, file: f, room: -1}
	if d.known {
		m.room = d.length - d.block
	}
	return m, nil
}

func (d *tapes) Check(Slot) error                     { return nil }
func (d *tapes) Changes() bool                        { return true }
func (d *tapes) Keeps() string                        { return "" }
func (d *tapes) Sheet(string, string) (string, error) { return "", nil }
func (d *tapes) Close() error                         { return nil }

// onTape writes blocks.
type onTape struct {
	f           *os.File
	block, left int64
}

func (o *onTape) Write(p []byte) (int, error) {
	if int64(len(p)) != o.block {
		return 0, syscall.EINVAL
	}
	if o.left > 0 {
		if o.left -= o.block; o.left <= 0 {
			o.left = 1
			return 0, syscall.ENOSPC
		}
	}
	return o.f.Write(p)
}

// TestTapeEnds: tapes end at every block of a volume's end, the last one included, which is written when the volume is complete.
func TestTapeEnds(t *testing.T) {
	s := newSource(t)
	id := s.take(randomFiles(rand.New(rand.NewPCG(13, 2)), 15))
	const block = 64 << 10
	create := func(length int64) (Result, string) {
		d := &tapes{dir: t.TempDir(), block: block, length: length}
		o := s.options("", id)
		o.Level = LevelFull
		o.Target = func(Permit) (Target, error) { return d, nil }
		o.Change = func(context.Context, Change) error { return nil }
		res, err := Create(t.Context(), s.st, o)
		if err != nil {
			t.Fatalf("tapes of %d: %v", length, err)
		}
		return res, d.dir
	}
	whole, _ := create(0)
	blocks := (whole.Stored + block - 1) / block
	for n := blocks - 3; n <= blocks+1; n++ {
		res, dir := create(n * block)
		if (len(res.Set.Volumes) == 1) != (n > blocks) {
			t.Errorf("%d volumes on tapes of %d blocks, %d are needed", len(res.Set.Volumes), n, blocks)
		}
		if c := s.only(dir); !c.Whole {
			t.Errorf("%d blocks of %d: %+v", n, blocks, c)
		}
		s.check([]store.ID{id}, dir)
	}
}

// TestParityOnEqualMedia: where all media are of one size, parity volumes fit on them as well.
func TestParityOnEqualMedia(t *testing.T) {
	s := newSource(t)
	id := s.take(randomFiles(rand.New(rand.NewPCG(15, 2)), 40))
	d := &tapes{dir: t.TempDir(), block: 4 << 10, length: 1_200_000 / (4 << 10) * (4 << 10), known: true}
	o := s.options("", id)
	o.ParityVolumes, o.ParityDir = 2, t.TempDir()
	o.Target = func(Permit) (Target, error) { return d, nil }
	o.Change = func(context.Context, Change) error { return nil }
	res, err := Create(t.Context(), s.st, o)
	must(t, err)
	if len(res.Set.Volumes) < 4 {
		t.Fatalf("%d volumes", len(res.Set.Volumes))
	}
	must(t, os.Remove(filepath.Join(d.dir, "tape1"+Suffix)))
	must(t, os.Remove(filepath.Join(d.dir, "tape2"+Suffix)))
	s.check([]store.ID{id}, d.dir)
}
