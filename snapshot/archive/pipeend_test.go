package archive

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// endsAndGoesOn is a tape or a terminal: behind its end there is more, for who reads on.
type endsAndGoesOn struct {
	parts []io.Reader
	ended int
}

func (e *endsAndGoesOn) Read(b []byte) (int, error) {
	if len(e.parts) == 0 {
		return 0, io.EOF
	}
	n, err := e.parts[0].Read(b)
	if n == 0 && err == io.EOF {
		e.ended++
		e.parts = e.parts[1:]
	}
	return n, err
}

// TestPipeEndsOnce: behind the end of a pipe nothing is read, whatever made somebody read it to the end, and whatever would come.
func TestPipeEndsOnce(t *testing.T) {
	w := newWorld(t)
	_, sets := chained(t, w, 700_000)
	whole, err := io.ReadAll(pipe(t, sets[0]))
	must(t, err)
	hurt := bytes.Clone(whole)
	clear(hurt[len(hurt)/2:][:300_000])
	for name, c := range map[string]struct {
		data []byte
		ref  string
		keep bool
		all  bool
	}{
		"wanted":                        {whole, "data@" + w.snapshots[0].Name, false, false},
		"a name":                        {whole, "data", false, false},
		"a name, kept":                  {whole, "data", true, false},
		"damaged, kept":                 {hurt, "data@" + w.snapshots[0].Name, true, false},
		"damaged at the beginning":      {hurt[len(hurt)/2:], "data", true, false},
		"a part of a volume, kept":      {whole[150_000:450_000], "data", true, false},
		"everything":                    {whole, "", false, true},
		"another snapshot":              {whole, "data@" + w.snapshots[2].Name, false, false},
		"another snapshot, kept":        {whole, "data@" + w.snapshots[2].Name, true, false},
		"another snapshot, no room":     {whole, "data@" + w.snapshots[2].Name, true, false},
		"everything, scratch is no dir": {whole, "", false, true},
	} {
		in := &endsAndGoesOn{parts: []io.Reader{&pieces{data: c.data}, bytes.NewReader(whole), bytes.NewReader(whole)}}
		b, err := w.openPipe(c.ref, in, func(o *OpenOptions) {
			o.KeepAll, o.All, o.Scratch = c.keep, c.all, t.TempDir()
			if strings.Contains(name, "no ") {
				o.Scratch = filepath.Join(o.Scratch, "missing")
			}
		})
		if err == nil {
			if b.Passes() {
				_ = (&passed{Bare: b}).all(t.Context())
			}
			must(t, b.Close())
		}
		if in.ended > 1 || len(in.parts) == 2 && in.parts[0].(*bytes.Reader).Len() < len(whole) {
			t.Errorf("%s: %d ends were read, %v", name, in.ended, err)
		}
	}
}

// failing is a medium that cannot be read from some point on.
func failing(data []byte) io.Reader {
	return io.MultiReader(bytes.NewReader(data), readerFunc(func([]byte) (int, error) {
		return 0, &os.PathError{Op: "read", Path: "tape", Err: unix.EIO}
	}))
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// TestPipeFails: a read error ends a pipe, and is told; what came before is as good as ever.
func TestPipeFails(t *testing.T) {
	w := newWorld(t)
	_, sets := chained(t, w, 700_000)
	all, err := io.ReadAll(pipe(t, sets[1], sets[0]))
	must(t, err)
	one, err := io.ReadAll(pipe(t, sets[1]))
	must(t, err)
	s := w.snapshots[1]
	for _, ref := range []string{"data", "data@" + s.Name} {
		for _, keep := range []bool{false, true} {
			for _, n := range []int{0, 5000, len(one) / 2, len(one), len(one) + 1000, len(all) - 400_000, len(all) - 1} {
				var unread *UnreadError
				o := w.options(ref)
				o.Stdin, o.KeepAll, o.Scratch = failing(all[:n]), keep, t.TempDir()
				b, err := Open(t.Context(), []string{"-"}, o)
				if err != nil {
					if n >= len(one) && !(keep && errors.As(err, new(*ParentError))) || !errors.As(err, &unread) || unread.Name != "standard input" {
						t.Errorf("%s, kept %v, %d bytes: %v", ref, keep, n, err)
					}
					continue
				}
				damaged := w.read(b, s)
				if !errors.As(b.Unread(), &unread) && !(ref != "data" && n == len(all)-1) {
					t.Errorf("%s, kept %v, %d bytes: nothing is told", ref, keep, n)
				}
				if n > len(all)/2 && len(damaged) > len(w.content[s.ID])/2 {
					t.Errorf("%s, kept %v, %d bytes: %d of %d damaged", ref, keep, n, len(damaged), len(w.content[s.ID]))
				}
				must(t, b.Close())
			}
		}
	}
	var findings []string
	o := CheckOptions{OpenOptions: w.options(""), Found: func(f Finding) { findings = append(findings, f.Volume+": "+f.What) }}
	o.Stdin = failing(all[:len(one)+1000])
	r, err := Check(t.Context(), []string{"-"}, o)
	must(t, err)
	if r.Volumes < len(sets[1].volumes) || !strings.Contains(strings.Join(findings, "\n"), "standard input: what comes behind cannot be read: read tape: input/output error") {
		t.Errorf("%+v %q", r, findings)
	}
	if _, err := FirstLabel(failing(all[:1000])); !errors.Is(err, unix.EIO) {
		t.Errorf("label: %v", err)
	}
}

// TestCancelledWhileCounting: where there is no room for a copy, cancelling ends the counting of how much would have been enough.
func TestCancelledWhileCounting(t *testing.T) {
	w := newWorld(t)
	_, sets := chained(t, w, 700_000)
	ctx, cancel := context.WithCancel(t.Context())
	o := w.options("")
	o.All, o.Scratch = true, filepath.Join(t.TempDir(), "missing")
	o.Stdin = io.MultiReader(pipe(t, sets[0]), readerFunc(func([]byte) (int, error) { cancel(); return 0, nil }))
	if _, err := Open(ctx, []string{"-"}, o); !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "enough") {
		t.Error(err)
	}
}

// TestNothingInPipe: what holds no volume is said to hold none.
func TestNothingInPipe(t *testing.T) {
	w := newWorld(t)
	for _, data := range [][]byte{nil, noise(1, 100_000)} {
		for _, keep := range []bool{false, true} {
			_, err := w.openPipe("data", bytes.NewReader(data), func(o *OpenOptions) { o.KeepAll, o.Scratch = keep, t.TempDir() })
			if !errors.Is(err, ErrNoVolume) {
				t.Errorf("%d bytes, kept %v: %v", len(data), keep, err)
			}
		}
	}
}
