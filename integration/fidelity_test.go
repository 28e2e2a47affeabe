package integration

import (
	"os"
	"path/filepath"
	"testing"
)

// TestFidelity takes a snapshot of everything and compares mount, restore and both tars of its dump with the source.
func TestFidelity(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	// A file system of its own: what the temporary directory lies on may know neither flags nor old times.
	attachExt4(t, filepath.Join(dir, "disk"), "1G")
	w := worldAt(t, filepath.Join(dir, "disk", "w"))
	w.init()
	source := newZoo(t, w.mkdir("source"))
	s := w.backup(0, "zoo", source.dir)
	if again := w.backup(0, "zoo", source.dir); again.New+again.Changed != 0 && again.Read != 0 {
		t.Errorf("unchanged tree: %d new, %d changed, %d bytes read", again.New, again.Changed, again.Read)
	}
	snap := "zoo@" + s.Name

	t.Run("ls", func(t *testing.T) { source.compareListing(t, w.with(t).do(0, "ls", "-R", "-l", "--json", snap).stdout) })
	t.Run("mount", func(t *testing.T) {
		w := w.with(t)
		mnt := filepath.Join(w.mount("mnt"), "zoo", s.Name)
		source.comparePlain(t, mnt, "")
		source.compareTar(t, mnt)
		source.compareHuge(t, mnt)
		source.compareDeep(t, mnt)
		w.umount(w.path("mnt"))
	})
	t.Run("restore", func(t *testing.T) {
		w := w.with(t)
		out := w.path("out")
		t.Cleanup(func() { sh(t, w.dir, `[ ! -d out ] || chattr -f -R -i -a out/locked || true; rm -rf out`) })
		w.do(0, "restore", snap, "--to", out)
		source.comparePlain(t, out, "")
		source.compareTar(t, out)
		source.compareHuge(t, out)
		source.compareDeep(t, out)
		source.compareFlags(t, out)
		if again := w.do(0, "restore", "--json", snap, "--to", out).summary(t); again.Written != 0 {
			t.Errorf("restored again: %d written", again.Written)
		}
	})
	t.Run("gnu-tar", func(t *testing.T) {
		out := source.extract(t, w.with(t), snap, `tar --xattrs --xattrs-include='*' --acls --numeric-owner -xpf -`)
		source.comparePlain(t, out, "sock")
		source.compareHuge(t, out)
	})
	t.Run("bsdtar", func(t *testing.T) {
		needTools(t, "bsdtar")
		out := source.extract(t, w.with(t), snap, `bsdtar --acls --xattrs --fflags --numeric-owner -xpf -`)
		// libarchive reads the fraction of a time before 1970 with the wrong sign, and leaves alone the time of a
		// directory that was there.
		sh(t, out, `for f in past absolute d/e/f .; do touch -h -r "$1/plain/$f" "plain/$f"; done`, source.dir)
		source.comparePlain(t, out, "sock")
		source.compareHuge(t, out)
	})
}

// extract unpacks a dump of the snapshot, without its sockets and what is deeper than tars can follow.
func (z zoo) extract(t *testing.T, w *world, snap, tar string) string {
	t.Helper()
	out := w.mkdir("untar")
	t.Cleanup(func() { sh(t, w.dir, `chattr -f -R -i -a untar/locked || true; rm -rf untar`) })
	for _, part := range []string{"plain", "huge", "locked"} {
		dir := filepath.Join(out, part)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := w.command("bash", "-euo", "pipefail", "-c", `"$1" dump "$2" | (cd "$3" && `+tar+`)`, "bash", snapfs, snap+":/"+part, dir)
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("dump of %s: %v: %s", part, err, tail(string(text)))
		}
	}
	return out
}
