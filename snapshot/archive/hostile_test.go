package archive

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/zeebo/xxh3"

	"snapfs/store"
	"snapfs/store/volume"
)

// mark is where something lies in a volume that only a sum protects.
type mark struct {
	at, length int
	sum        func(b []byte) // makes the sums of that stretch right again
}

// marksOf finds labels, headers, what frames hold, and the trailer.
func marksOf(t testing.TB, data []byte, id volume.ID) (list []mark) {
	seed := binary.LittleEndian.Uint64(id[:8]) ^ binary.LittleEndian.Uint64(id[8:])
	put := func(b []byte, n int) { binary.LittleEndian.PutUint64(b[n:], xxh3.HashSeed(b[:n], seed)) }
	_, length, err := volume.ParseLabel(data)
	must(t, err)
	list = append(list, mark{0, length, func(b []byte) { put(b, length-8) }})
	_, _, err = volume.Scan(bytes.NewReader(data), 0, int64(len(data)), id, func(at int64, h volume.Header) error {
		list = append(list, mark{int(at), volume.HeaderSize, func(b []byte) { put(b, 48) }})
		list = append(list, mark{int(at), int(h.Stored()), func(b []byte) {
			if h.Kind == volume.FrameParity && h.Length > 48 {
				put(b[volume.HeaderSize:][:48], 40)
			}
			binary.LittleEndian.PutUint64(b[40:], xxh3.Hash(b[volume.HeaderSize:]))
			put(b, 48)
		}})
		return nil
	})
	must(t, err)
	end := len(data) - volume.TrailerSize
	return append(list, mark{end, volume.TrailerSize, func(b []byte) { put(b, 72) }})
}

// forge changes a volume as somebody would who has no key.
func forge(r *rand.Rand, data []byte, marks []mark) []byte {
	data = bytes.Clone(data)
	for range 1 + r.IntN(3) {
		m := marks[r.IntN(len(marks))]
		if r.IntN(3) == 0 { // the ends are where most is
			m = []mark{marks[0], marks[len(marks)-1], marks[len(marks)-2], marks[len(marks)-3]}[r.IntN(4)]
		}
		b := data[m.at : m.at+m.length]
		for range 1 + r.IntN(3) {
			n := min(len(b), 140)
			at := r.IntN(n)
			if len(b) > 600 && r.IntN(2) == 0 {
				at = 512 + r.IntN(min(len(b)-512, 500))
			}
			switch r.IntN(4) {
			case 0:
				b[at] ^= 1 << r.IntN(8)
			case 1:
				b[at] = byte(r.IntN(256))
			case 2:
				for i := at; i < min(at+8, len(b)); i++ {
					b[i] = 0xff
				}
				b[min(at+7, len(b)-1)] = 0x3f
			case 3:
				clear(b[at:min(at+8, len(b))])
			}
		}
		m.sum(b)
	}
	return data
}

// TestHostileVolumes: whatever is forged in volumes without a key, nothing panics, hangs, needs much memory, or writes elsewhere.
func TestHostileVolumes(t *testing.T) {
	rounds, seed := 20, uint64(1)
	if os.Getenv("SNAPFS_TEST_LONG") != "" {
		rounds, seed = 2500, rand.Uint64()
	}
	dir, o := withParityVolumes(t, 2)
	paths, err := filepath.Glob(filepath.Join(dir, "*"+Suffix))
	must(t, err)
	var volumes [][]byte
	var marks [][]mark
	for _, path := range paths {
		data, err := os.ReadFile(path)
		must(t, err)
		l, _, err := volume.ParseLabel(data)
		must(t, err)
		volumes, marks = append(volumes, data), append(marks, marksOf(t, data, l.Volume))
	}
	o.Note = func(string) {}
	r := rand.New(rand.NewPCG(seed, 7))
	for round := range rounds {
		in, all := t.TempDir(), []byte{}
		for i := range volumes {
			data := volumes[i]
			switch n := r.IntN(8); {
			case n == 0 && i > 0:
				continue
			case n < 4:
				data = forge(r, data, marks[i])
			}
			must(t, os.WriteFile(filepath.Join(in, fmt.Sprint(i)+Suffix), data, 0o600))
			all = append(all, data...)
		}
		for what, do := range hostileUses(t, o, in, all) {
			guarded(t, fmt.Sprintf("round %d: %s", round, what), do)
		}
		if t.Failed() {
			t.Fatalf("seed %d, round %d", seed, round)
		}
		must(t, os.RemoveAll(in))
	}
}

func hostileUses(t *testing.T, o OpenOptions, dir string, all []byte) map[string]func(context.Context) {
	open := func(change func(*OpenOptions), args ...string) func(context.Context) {
		return func(ctx context.Context) {
			o := o
			o.Scratch, o.Stdin = filepath.Dir(dir), &pieces{data: all}
			change(&o)
			b, err := Open(ctx, args, o)
			if err != nil {
				return
			}
			if b.Target() != nil {
				_, _ = b.receiveAny(ctx)
			} else if st, err := b.State(ctx); err == nil {
				for _, s := range st.Snapshots {
					_, _ = b.Get(ctx, 2, s.ID)
				}
			}
			_ = b.Close()
		}
	}
	check := func(args []string, noKey bool) func(context.Context) {
		return func(ctx context.Context) {
			o := CheckOptions{OpenOptions: o, NoKey: noKey}
			o.Scratch, o.Stdin = filepath.Dir(dir), &pieces{data: all}
			_, _ = Check(ctx, args, o)
		}
	}
	to := filepath.Join(filepath.Dir(dir), "repaired")
	return map[string]func(context.Context){
		"restore":             open(func(o *OpenOptions) {}, dir),
		"restore from a pipe": open(func(o *OpenOptions) {}, "-"),
		"restore kept":        open(func(o *OpenOptions) { o.KeepAll = true }, "-"),
		"import":              open(func(o *OpenOptions) { o.Resolve, o.All = nil, true }, "-"),
		"ls":                  open(func(o *OpenOptions) { o.Resolve = nil }, "-"),
		"ls of files":         open(func(o *OpenOptions) { o.Resolve = nil }, dir),
		"verify":              check([]string{dir}, false),
		"verify a pipe":       check([]string{"-"}, false),
		"verify without key":  check([]string{dir}, true),
		"info":                func(context.Context) { _, _ = ReadLabels([]string{dir, "-"}, &pieces{data: all}) },
		"repair": func(ctx context.Context) {
			_, _ = Repair(ctx, []string{dir}, RepairOptions{To: to})
			_ = os.RemoveAll(to)
		},
	}
}

// receiveAny takes all chunks that come.
func (b *Bare) receiveAny(ctx context.Context) (int, error) {
	if !b.Passes() {
		return 0, nil
	}
	return 0, b.Pass(ctx, func(store.ID) bool { return true }, func(store.ID, []byte) error { return nil }, func() bool { return false })
}

// guarded fails if something panics, takes long, or needs much memory.
func guarded(t *testing.T, what string, do func(context.Context)) {
	defer func() {
		if p := recover(); p != nil {
			t.Errorf("%s: panic: %v\n%s", what, p, debug.Stack())
		}
	}()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	watch := time.AfterFunc(40*time.Second, func() { panic(what + " hangs") })
	do(ctx)
	watch.Stop()
	runtime.ReadMemStats(&after)
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("%s: %v", what, took)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<30 {
		t.Errorf("%s: %d MiB allocated", what, n>>20)
	}
}
