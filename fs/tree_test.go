package fs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// makeTree fills a directory with one of everything.
func makeTree(t testing.TB, root string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(root, "sub/deep/er"), 0o755))
	must(os.WriteFile(filepath.Join(root, "small"), []byte("hello\n"), 0o644))
	must(os.WriteFile(filepath.Join(root, "empty"), nil, 0o600))
	must(os.WriteFile(filepath.Join(root, "sub/deep/er/big"), pattern(3<<20+17), 0o640))
	must(os.WriteFile(filepath.Join(root, "secret"), []byte("x"), 0o000))
	must(os.WriteFile(filepath.Join(root, "name\nwith \xff bytes"), []byte("y"), 0o644))
	must(os.WriteFile(filepath.Join(root, strings.Repeat("n", 255)), []byte("z"), 0o644))
	must(os.Symlink(strings.Repeat("t", 4095), filepath.Join(root, "longlink")))
	must(os.Symlink("small", filepath.Join(root, "link")))
	must(os.WriteFile(filepath.Join(root, "sub/one"), []byte("linked"), 0o644))
	must(os.Link(filepath.Join(root, "sub/one"), filepath.Join(root, "two")))
	must(os.Link(filepath.Join(root, "sub/one"), filepath.Join(root, "sub/deep/three")))
	must(unix.Mkfifo(filepath.Join(root, "fifo"), 0o600))
	must(os.Chmod(filepath.Join(root, "sub"), 0o777|os.ModeSticky))
	must(os.WriteFile(filepath.Join(root, "suid"), []byte("#!"), 0o755))
	must(os.Chmod(filepath.Join(root, "suid"), 0o755|os.ModeSetuid|os.ModeSetgid))
	sparse(t, filepath.Join(root, "sparse"))
	if os.Geteuid() == 0 {
		must(unix.Mknod(filepath.Join(root, "char"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		must(unix.Mknod(filepath.Join(root, "block"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 1<<17+3))))
		must(os.Lchown(filepath.Join(root, "empty"), 12345, 54321))
	}
	old := time.Unix(-1234567890, 987654321)
	must(os.Chtimes(filepath.Join(root, "small"), old, old))
	must(os.Chtimes(filepath.Join(root, "sub/deep"), time.Unix(1<<33, 5), time.Unix(1<<33, 5)))
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 ^ i>>9)
	}
	return b
}

// sparse makes data at 1 MiB and 5 MiB of 8 MiB.
func sparse(t testing.TB, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, off := range []int64{1 << 20, 5 << 20} {
		if _, err := f.WriteAt(pattern(64<<10), off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(8 << 20); err != nil {
		t.Fatal(err)
	}
}
