package integration

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// fill writes a file until its file system has not a byte left.
func fill(t testing.TB, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		_, err := f.Write(make([]byte, size))
		switch {
		case errors.Is(err, syscall.ENOSPC):
			size /= 2
		case err != nil:
			t.Fatal(err)
		}
	}
	f.Sync()
}

// grow gives the file system of a tmpfs more room.
func grow(t testing.TB, dir, size string) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size="+size); err != nil {
		t.Fatal(err)
	}
}

// TestFullDisk backs up more than the store's disk holds: the error says so, what was there stays good, and the next
// run with more room continues.
func TestFullDisk(t *testing.T) {
	needRoot(t)
	for _, disk := range []struct {
		name   string
		files  int // of 2 MiB
		attach func(t testing.TB, dir string) (more func())
	}{
		{"tiny tmpfs", 60, func(t testing.TB, dir string) func() {
			attachTmpfs(t, dir, "96M")
			return func() { grow(t, dir, "800M") }
		}},
		{"tmpfs", 160, func(t testing.TB, dir string) func() {
			attachTmpfs(t, dir, "300M")
			return func() { grow(t, dir, "800M") }
		}},
		{"ext4", 60, func(t testing.TB, dir string) func() {
			attachExt4(t, dir, "320M")
			filler := filepath.Join(dir, "filler")
			sh(t, dir, `fallocate -l 180M filler`)
			return func() {
				if err := os.Remove(filler); err != nil {
					t.Fatal(err)
				}
			}
		}},
	} {
		t.Run(disk.name, func(t *testing.T) {
			if testing.Short() && disk.files > 100 {
				t.Skip("writes 600 MB")
			}
			w := worldAt(t, t.TempDir())
			w.store = w.path("disk", "store")
			w.env = append(w.env, "SNAPFS_STORE="+w.store)
			more := disk.attach(t, w.path("disk"))
			w.init()
			src := newChurn(t, w.mkdir("source"))
			src.files("small", 200)
			first := "d@" + w.backup(0, "d", src.dir).Name
			want := sums(t, src.dir)
			for i := range disk.files {
				src.write("big/"+strings.Repeat("x", i+1), 2<<20)
			}
			for range 2 { // again on the full disk
				o := w.do(1, "backup", "--dataset", "d", src.dir)
				if !strings.Contains(o.stderr, "space") || !strings.Contains(o.stderr, "hint: ") {
					t.Errorf("the error says nothing of space, or gives no hint: %s", tail(o.stderr))
				}
			}
			if n := len(w.snapshots()); n != 1 {
				t.Errorf("%d snapshots, want 1", n)
			}
			differ(t, "the first snapshot on the full disk", want, w.restored(first))
			before := usage(t, w.store)
			more()
			s := w.backup(0, "d", src.dir)
			differ(t, "the snapshot after all", sums(t, src.dir), w.restored("d@"+s.Name))
			w.with(t).verified()
			// What the failed runs wrote is found again.
			total := int64(disk.files) * 2 << 20
			if after := usage(t, w.store); after > total+total/4+32<<20 {
				t.Errorf("the store takes %d MiB after %d MiB, for %d MiB of data", after>>20, before>>20, total>>20)
			}
		})
	}
}

// usage is the sum of the sizes of the volumes.
func usage(t testing.TB, dir string) int64 {
	t.Helper()
	var sum int64
	for _, v := range volumes(t, dir) {
		sum += v.size
	}
	return sum
}

// worldOnTmpfs has its store on a small file system of its own, disk.
func worldOnTmpfs(t *testing.T, size string) (w *world, disk string) {
	t.Helper()
	w = worldAt(t, t.TempDir())
	disk = w.path("disk")
	w.store = filepath.Join(disk, "store")
	w.env = append(w.env, "SNAPFS_STORE="+w.store)
	attachTmpfs(t, disk, size)
	w.init()
	return w, disk
}

// TestDiskFilledByOthers leaves not a byte: reading goes on, and so does writing once there is room again.
func TestDiskFilledByOthers(t *testing.T) {
	needRoot(t)
	w, disk := worldOnTmpfs(t, "200M")
	src := newChurn(t, w.mkdir("source"))
	src.files("files", 300)
	src.write("large", 5<<20)
	s := w.backup(0, "d", src.dir)
	want := sums(t, src.dir)
	held := w.mount("held") // opened its index while there was room
	var killed *job

	filler := filepath.Join(disk, "filler")
	for _, how := range []string{"held", "alone", "killed"} {
		if how == "killed" { // nobody closes the index
			killed, held = w.holder("killed")
			w.backup(0, "other", src.dir)
		}
		fill(t, filler)
		if how == "killed" {
			killed.Process.Kill()
			killed.wait()
			w.umount(held)
		}
		if w.snapshots()["d@"+s.Name] == "" {
			t.Errorf("%s: the snapshot is not listed", how)
		}
		w.do(0, "ls", "-R", "d")
		w.do(0, "find", "large")
		w.do(0, "stats")
		differ(t, how+": restore", want, w.restored("d@"+s.Name))
		if how == "held" {
			differ(t, "the mount that was there", want, sums(t, filepath.Join(held, "d", s.Name)))
			w.umount(held)
		}
		mnt := w.mount("new")
		differ(t, how+": new mount", want, sums(t, filepath.Join(mnt, "d", s.Name)))
		src.write("more", 1<<20)
		if o := w.do(1, "backup", "--dataset", "d", src.dir); !strings.Contains(o.stderr, "space") {
			t.Errorf("%s: the error says nothing of space: %s", how, o.stderr)
		}
		w.umount(mnt)
		if o := w.do(1, "rebuild"); !strings.Contains(o.stderr, "no space") || !strings.Contains(o.stderr, "hint: free some space") {
			t.Errorf("%s: rebuild says nothing of space: %s", how, o.stderr)
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
	}
	s = w.backup(0, "d", src.dir)
	differ(t, "with room again", sums(t, src.dir), w.restored("d@"+s.Name))
	w.verified()
}

// TestDecisionsOnFullDisk: on a disk without a byte left every command that changes facts or keys does what it says and lasts, or says that
// there is no space, changes nothing and works once there is room.
func TestDecisionsOnFullDisk(t *testing.T) {
	needRoot(t)
	w, disk := worldOnTmpfs(t, "200M")
	filler := filepath.Join(disk, "filler")
	src := newChurn(t, w.mkdir("source"))
	src.files("files", 100)
	src.write("large", 5<<20)
	var ids []string
	for range 6 {
		src.write("more", 1000)
		ids = append(ids, w.backup(0, "d", src.dir).Snapshot)
	}
	want := sums(t, src.dir)
	w.do(0, "forget", ids[0])
	w.do(0, "hold", ids[1], "--forever")
	for _, name := range []string{"second", "third"} {
		if err := os.WriteFile(w.path(name), []byte(name+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	slot := strings.TrimSpace(w.do(0, "key", "add", "--new-password-file", w.path("second"), "--label", "second").stdout)
	sheet := w.path("sheet")
	if err := os.WriteFile(sheet, []byte(w.do(0, "key", "export").stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	state := func() string {
		return w.do(0, "snapshots", "--json").stdout + w.do(0, "snapshots", "--forgotten", "--json").stdout + w.do(0, "key", "list", "--json").stdout
	}
	for _, args := range [][]string{
		{"forget", ids[2]},
		{"unforget", ids[0]},
		{"tag", ids[3], "--add", "important"},
		{"hold", ids[3], "--forever"},
		{"hold", ids[1], "--release"},
		{"key", "add", "--new-password-file", w.path("third")},
		{"key", "change", slot, "--new-key-file", w.path("made")},
		{"key", "import", sheet},
		{"key", "remove", slot},
	} {
		name := args[0]
		if name == "key" {
			name += " " + args[1]
		}
		t.Run(name, func(t *testing.T) {
			w := w.with(t)
			before := state()
			fill(t, filler)
			o := w.start(args...).wait()
			full := state()
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
			t.Logf("exit code %d: %s", o.code, tail(o.stderr))
			if roomy := state(); roomy != full {
				t.Errorf("on the full disk\n%s\nand then\n%s", full, roomy)
			}
			switch {
			case o.code == 0:
			case o.code != 1 || !strings.Contains(o.stderr, "no space") || !strings.Contains(o.stderr, "hint: free some space"):
				t.Errorf("exit code %d: %s", o.code, tail(o.stderr))
			case full != before:
				t.Errorf("it failed, and there is\n%s\nwhere there was\n%s", full, before)
			default:
				w.do(0, args...)
			}
			w.do(0, "verify")
		})
	}
	differ(t, "restore", want, w.restored("latest"))
	w.verified()
}
