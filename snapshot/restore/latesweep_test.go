package restore

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
)

// doubtful is a piped that says when it is certain, and whether anything passes.
type doubtful struct {
	*piped
	certain, passes bool
}

func (d *doubtful) Certain() bool { return d.certain && d.once }

func (d *doubtful) Passes() bool { return d.passes }

// TestDeleteInDoubt: while what comes may still show that another snapshot is wanted nothing is deleted, and nothing at all if it is never certain.
func TestDeleteInDoubt(t *testing.T) {
	src := t.TempDir()
	write(t, src+"/sub/a", noise(1, 10_000), 0o644)
	write(t, src+"/locked/b", nil, 0o644)
	write(t, src+"/way", noise(2, 10_000), 0o644)
	at(t, src+"/sub", 1_700_000_000)
	blobs := newBlobs()
	tree := open(t, blobs, take(t, blobs, src, nil))
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		certain, here bool
		fails, ends   error
		left          string
		errs          []error
	}{
		"certain in the end": {certain: true, left: "locked locked/b sub sub/a way way/inside", errs: []error{ErrDoubt}},
		"another is wanted":  {certain: true, fails: broken, ends: broken, left: "locked locked/b locked/mine mine mine/f sub sub/a sub/mine way way/inside", errs: []error{ErrDoubt}},
		"never certain":      {left: "locked locked/b locked/mine mine mine/f sub sub/a sub/mine way way/inside", errs: []error{ErrDoubt, ErrDoubt}},
		"read from scratch":  {here: true, left: "locked locked/b locked/mine mine mine/f sub sub/a sub/mine way way/inside", errs: []error{ErrDoubt, ErrDoubt}},
	} {
		dst := t.TempDir()
		for _, path := range []string{"mine/f", "sub/mine", "locked/mine", "way/inside"} {
			write(t, dst+"/"+path, []byte("x"), 0o644)
		}
		ok(t, os.Chmod(dst+"/locked", 0o500))
		p := newPiped(t, blobs, tree, false)
		p.fails = c.fails
		if c.here {
			for id := range p.here {
				p.here[id] = true
			}
		}
		var errs []error
		_, err := Run(t.Context(), &doubtful{p, c.certain, !c.here}, tree, Options{To: dst, Delete: true, OnError: func(e *snapshot.PathError) { errs = append(errs, e) }})
		if !errors.Is(err, c.ends) || len(errs) != len(c.errs) {
			t.Errorf("%s: %v %v", name, err, errs)
		}
		for i, e := range c.errs {
			if i < len(errs) && !errors.Is(errs[i], e) {
				t.Errorf("%s: %v", name, errs[i])
			}
		}
		if got := paths(t, dst); got != c.left {
			t.Errorf("%s: %s", name, got)
		}
		var st unix.Stat_t
		ok(t, unix.Stat(dst+"/sub", &st))
		if err == nil && st.Mtim.Sec != 1_700_000_000 {
			t.Errorf("%s: the directory is of %d", name, st.Mtim.Sec)
		}
	}
}

func at(t *testing.T, path string, sec int64) {
	t.Helper()
	ok(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{{Sec: sec}, {Sec: sec}}, 0))
}
