package archive

import (
	"io"
	"path/filepath"
	"strings"
	"testing"
)

// TestRestOfPipes: each pipe has a copy of its own, also one of which nothing had been read when it was known what is needed; and without
// room for them the answer is no.
func TestRestOfPipes(t *testing.T) {
	for _, c := range []struct {
		dir string
		ok  bool
	}{{t.TempDir(), true}, {filepath.Join(t.TempDir(), "missing"), false}} {
		b := &Bare{o: OpenOptions{KeepAll: true, Scratch: c.dir}, pipes: &pipeReader{}}
		for _, text := range []string{"the first", "the second one"} {
			b.inputs = append(b.inputs, &input{name: text, pipe: strings.NewReader(text)})
		}
		_, _ = io.CopyN(io.Discard, b.copying(b.inputs[0]), 3)
		b.pipes.known = true
		list, err := b.keepRest(t.Context(), 0)
		if (err == nil) != c.ok || c.ok && len(list) != 2 {
			t.Errorf("%s: %d inputs, %v", c.dir, len(list), err)
		}
		for _, in := range b.inputs {
			if c.ok {
				break
			}
			got, err := io.ReadAll(b.copying(in)) // goes on where it was
			if err != nil || !strings.HasSuffix(in.name, string(got)) || len(got) < len(in.name)-3 {
				t.Errorf("of %q there is %q: %v", in.name, got, err)
			}
		}
		for _, in := range list {
			got := make([]byte, in.size)
			if _, err := in.file.ReadAt(got, 0); err != nil || string(got) != in.name {
				t.Errorf("of %q there is %q: %v", in.name, got, err)
			}
		}
		must(t, b.Close())
	}
}
