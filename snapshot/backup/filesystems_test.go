package backup

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
)

func TestParseMount(t *testing.T) {
	for _, c := range []struct {
		line string
		want mount
		ok   bool
	}{
		{"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n", mount{"/mnt2", unix.Mkdev(98, 0), "ext3"}, true},
		{`40 35 0:52 / /a\040b\134c rw - fuse.snapfs snapfs ro` + "\n", mount{`/a b\c`, unix.Mkdev(0, 52), "fuse.snapfs"}, true},
		{"36 35 98:0 /mnt1 /mnt2 rw,noatime", mount{}, false},
		{"36 35 x:0 / / rw - ext4 a b", mount{}, false},
		{"", mount{}, false},
	} {
		if got, ok := parseMount(c.line); got != c.want || ok != c.ok {
			t.Errorf("%q: %+v %v", c.line, got, ok)
		}
	}
}

func FuzzParseMount(f *testing.F) {
	f.Add("36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n")
	f.Add(`40 35 0:52 / /a\04 rw - fuse.snapfs snapfs ro`)
	f.Fuzz(func(t *testing.T, line string) { parseMount(line) })
}

func TestFileSystemIndexes(t *testing.T) {
	mounts := []mount{{"/", 1, "ext4"}, {"/home", 2, "xfs"}, {"/bind", 2, "xfs"}, {"/usb", 3, "vfat"}, {"/ov", 9, "overlay"}}
	known := []snapshot.FileSystem{{Index: 0, MountPath: "/"}, {Index: 4, MountPath: "/usb"}}
	f := newFileSystems(known, nil)
	f.mounts = func() []mount { return mounts }
	of := func(dev uint64, path string, entered bool) *fileSystem {
		return f.of(dev, func() string { return path }, entered)
	}
	for _, c := range []struct {
		dev     uint64
		path    string
		entered bool
		index   uint32
		at      string
	}{
		{1, "/etc", true, 0, "/"},
		{3, "/usb/x", true, 4, "/usb"},
		{2, "/home/me", true, 5, "/home"},
		{2, "/bind", true, 5, "/home"},               // the same device
		{7, "/home/subvol", true, 6, "/home/subvol"}, // no mount of its own
		{10, "/ov/file", false, 7, "/ov (layer 0)"},
		{11, "/ov/file2", false, 8, "/ov (layer 1)"},
	} {
		fs := of(c.dev, c.path, c.entered)
		if fs.index != c.index || !hasFS(f.list(), c.index, c.at) {
			t.Errorf("%+v: index %d, %+v", c, fs.index, f.list())
		}
	}
	if of(3, "", true).tick != coarseTick || of(1, "", true).tick >= coarseTick {
		t.Error("ticks are wrong")
	}
	// A later run gives the same numbers, in another order of meeting them.
	g := newFileSystems(f.list())
	g.mounts = f.mounts
	if fs := g.of(2, func() string { return "/home" }, true); fs.index != 5 {
		t.Errorf("index %d", fs.index)
	}
}

func hasFS(list []snapshot.FileSystem, index uint32, path string) bool {
	for _, f := range list {
		if f.Index == index {
			return f.MountPath == path
		}
	}
	return false
}

// TestSnapfsMount saves a directory that is said to be a mount of snapfs: it must be left alone.
func TestSnapfsMount(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{"a": "1", "d/mnt/inside/x": "2", "d/y": "3"})
	h := hooks{mounts: func() []mount {
		return append(readMounts(), mount{path: filepath.Join(root, "d/mnt"), dev: 12345, fsType: snapfsType})
	}}
	for _, single := range []bool{true, false} {
		repo := newFakeRepo(t)
		o := Options{Paths: []string{root}, Dataset: "test"}
		want := "a d/ d/mnt/ d/y"
		if !single {
			o.Paths = []string{filepath.Join(root, "d"), filepath.Join(root, "a")}
		}
		var tree *snapshot.Tree
		for range 2 {
			res, err := backupTree(t.Context(), repo, &o, h)
			must(t, err)
			tree = repo.tree(t, res.Snapshot.ID)
		}
		got := listTree(t, tree)
		if single && names(got) != want {
			t.Errorf("%q", names(got))
		}
		if !single && (got[root[1:]+"/d/mnt/"] == nil || got[root[1:]+"/d/mnt/inside/"] != nil) {
			t.Errorf("%q", names(got))
		}
	}
}

func TestDescriptors(t *testing.T) {
	root := t.TempDir()
	before := openFDs(t)
	table := newDescriptors(3)
	var st unix.Statx_t
	top := &dir{path: root, fd: -1}
	must(t, statxAt(unix.AT_FDCWD, appendName(nil, root), 0, &st))
	top.ino, top.dev = st.Ino, devOf(&st)
	chain := []*dir{top}
	path := root
	for range 20 {
		path = filepath.Join(path, "d")
		must(t, os.Mkdir(path, 0o700))
		must(t, statxAt(unix.AT_FDCWD, appendName(nil, path), 0, &st))
		chain = append(chain, &dir{parent: chain[len(chain)-1], name: "d", fd: -1, ino: st.Ino, dev: devOf(&st)})
	}
	check := func(d *dir) {
		t.Helper()
		fd, err := table.acquire(d)
		if err != nil {
			t.Fatal(err)
		}
		defer table.release(d)
		if err := statxFD(fd, &st); err != nil || st.Ino != d.ino {
			t.Errorf("inode %d, not %d: %v", st.Ino, d.ino, err)
		}
	}
	for _, i := range []int{20, 0, 20, 10, 19, 20, 5, 1, 18} {
		check(chain[i])
		if now := openFDs(t); now > before+4 {
			t.Fatalf("%d descriptors", now-before)
		}
	}
	must(t, os.Rename(path, path+"x"))
	must(t, os.Mkdir(path, 0o700))
	table.drop(chain[20])
	if _, err := table.acquire(chain[20]); err != unix.ESTALE {
		t.Errorf("another directory in its place: %v", err)
	}
	table.closeAll()
	if now := openFDs(t); now != before {
		t.Errorf("%d descriptors, before %d", now, before)
	}
}
