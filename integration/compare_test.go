package integration

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// comparePlain compares the plain part of a copy with the source by rsync, find and getfattr. Base names like without
// are left out of it.
func (z zoo) comparePlain(t *testing.T, copied, without string) {
	t.Helper()
	from, to := filepath.Join(z.dir, "plain"), filepath.Join(copied, "plain")
	if without == "" {
		without = "//"
	}
	for _, pair := range [][2]string{{from, to}, {to, from}} {
		if out := sh(t, z.dir, `rsync -aHAXnci --modify-window=-1 --delete --exclude="$3" "$1"/ "$2"/`, pair[0], pair[1], without); out != "" {
			t.Errorf("rsync from %s:\n%s", pair[0], tail(out))
		}
	}
	for what, script := range map[string]string{
		"find": `find . ! -name "$1" \( -type d -printf '%P|%y|%m|%U|%G|%T+|%l\n' -o -printf '%P|%y|%m|%U|%G|%T+|%l|%s|%n\n' \) | sort`,
		// Blocks of files differ with the allocator; that holes take no space must not.
		"sparse":   `find . -type f -size +1M -printf '%P ' -exec sh -c 'if [ $(stat -c %b "$0") -lt $(($(stat -c %s "$0") / 1024)) ]; then echo sparse; else echo full; fi' {} \; | sort`,
		"getfattr": `find . ! -name "$1" -print0 | sort -z | xargs -0 -n 500 getfattr -h -d -m - -e hex -- 2>&1 | sort | uniq -c`,
		"xattrs":   `find . ! -name "$1" -print0 | sort -z | xargs -0 -n 500 getfattr -h -d -m 'user|trusted|security' -e hex --`,
		"acls":     `find . -path './x/*' ! -type l -print0 | sort -z | xargs -0 getfacl -n -p --`,
		"devices":  `find . \( -type b -o -type c \) -exec stat -c '%n %t %T' {} + | sort`,
		// Which names belong to one inode.
		"links": `find links x -links +1 ! -type d -printf '%i %p\n' | sort -k2 | awk '{if (!($1 in first)) first[$1]=$2; print $2, first[$1]}'`,
	} {
		differ(t, what, sh(t, from, script, without), sh(t, to, script, without))
	}
	for _, name := range []string{"sparse", "holes-only", "ends-in-hole"} {
		differ(t, "islands of "+name, islands(t, filepath.Join(from, name)), islands(t, filepath.Join(to, name)))
	}
}

// compareTar lets GNU tar compare an archive of the source with the copy.
func (z zoo) compareTar(t *testing.T, copied string) {
	t.Helper()
	// Not the sparse ones: it reads their holes in pieces of 512 bytes.
	sh(t, z.dir, `tar --exclude='*sparse' --exclude='*hole*' --format=posix -cf - plain 2>/dev/null | tar -C "$1" -df -`, copied)
}

// compareHuge compares the terabyte without reading its holes.
func (z zoo) compareHuge(t *testing.T, copied string) {
	t.Helper()
	from, to := filepath.Join(z.dir, "huge", "sparse"), filepath.Join(copied, "huge", "sparse")
	differ(t, "islands of the terabyte", islands(t, from), islands(t, to))
	differ(t, "stat of the terabyte", sh(t, z.dir, `stat -c '%s %y %a' "$1"`, from), sh(t, z.dir, `stat -c '%s %y %a' "$1"`, to))
	if blocks := strings.TrimSpace(sh(t, z.dir, `stat -c %b "$1"`, to)); len(blocks) > 4 {
		t.Errorf("the terabyte takes %s blocks", blocks)
	}
}

// compareDeep compares what is deeper than a path can be long.
func (z zoo) compareDeep(t *testing.T, copied string) {
	t.Helper()
	const list = `find . \( -type d -printf '%d|%f|%y|%m|%U|%T+\n' -o -printf '%d|%f|%y|%m|%U|%T+|%l|%s|%n\n' \) | sort; find . -name bottom -execdir cat {} \;`
	differ(t, "deep", sh(t, filepath.Join(z.dir, "deep"), list), sh(t, filepath.Join(copied, "deep"), list))
}

// compareFlags compares the inode flags; e tells how the file system stores blocks.
func (z zoo) compareFlags(t *testing.T, copied string) {
	t.Helper()
	const list = `lsattr -R . | sed 's/e/-/; s/ .*\/\./ ./' | sort; find . -type f -exec sha256sum {} + | sort`
	differ(t, "flags", sh(t, filepath.Join(z.dir, "locked"), list), sh(t, filepath.Join(copied, "locked"), list))
}

// compareListing compares the JSON of ls with what statx says of the source.
func (z zoo) compareListing(t *testing.T, listing string) {
	t.Helper()
	count := 0
	for dec := json.NewDecoder(strings.NewReader(listing)); ; count++ {
		var e struct {
			Path, Type, Mode string
			Path64           []byte `json:"path_base64"`
			UID, GID         uint32
			Size, Nlink      int64
			Mtime, Btime     time.Time
			Flags            []string
			Xattrs           map[string]any
		}
		if err := dec.Decode(&e); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if len(e.Path64) > 0 {
			e.Path = string(e.Path64)
		}
		if strings.HasPrefix(e.Path, "/deep/") {
			continue
		}
		var st unix.Statx_t
		path := filepath.Join(z.dir, e.Path)
		if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_ALL|unix.STATX_BTIME, &st); err != nil {
			t.Errorf("listed: %v", err)
			continue
		}
		types := map[uint16]string{unix.S_IFREG: "file", unix.S_IFDIR: "dir", unix.S_IFLNK: "symlink", unix.S_IFIFO: "fifo",
			unix.S_IFSOCK: "socket", unix.S_IFCHR: "char", unix.S_IFBLK: "block"}
		if e.Type != "file" {
			st.Size, e.Size = 0, 0
		}
		if e.Type == "dir" {
			st.Nlink, e.Nlink = 0, 0
		}
		want := fmt.Sprint(types[st.Mode&unix.S_IFMT], fmt.Sprintf(" %04o ", st.Mode&0o7777), st.Uid, st.Gid, st.Size, st.Nlink,
			time.Unix(st.Mtime.Sec, int64(st.Mtime.Nsec)).UTC(), time.Unix(st.Btime.Sec, int64(st.Btime.Nsec)).UTC())
		got := fmt.Sprint(e.Type, " ", e.Mode, " ", e.UID, e.GID, e.Size, e.Nlink, e.Mtime.UTC(), e.Btime.UTC())
		if got != want {
			t.Errorf("%q is listed as %s, is %s", e.Path, got, want)
		}
		names := map[string]uint64{"immutable": unix.STATX_ATTR_IMMUTABLE, "append": unix.STATX_ATTR_APPEND, "nodump": unix.STATX_ATTR_NODUMP}
		for name, bit := range names {
			if slices.Contains(e.Flags, name) != (st.Attributes&bit != 0) {
				t.Errorf("%q is listed with flags %v", e.Path, e.Flags)
			}
		}
		xattrs, err := unix.Llistxattr(path, nil)
		if err != nil || (xattrs > 0) != (len(e.Xattrs) > 0) {
			t.Errorf("%q is listed with xattrs %v", e.Path, e.Xattrs)
		}
	}
	if n := strings.Count(sh(t, z.dir, `find . -mindepth 1 -path ./deep/ -prune -o -mindepth 1 -printf 'x\n'`), "x"); n != count {
		t.Errorf("%d entries listed, %d are there", count, n)
	}
}

// islands describes where a file has data, and the sum of each piece of it, trimmed of zeros: where holes begin and end
// depends on block sizes and so on the file system.
func islands(t testing.TB, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out strings.Builder
	for at := int64(0); ; {
		from, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			break
		}
		to, err2 := unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE)
		if err != nil || err2 != nil {
			t.Fatalf("islands of %s: %v, %v", path, err, err2)
		}
		if to-from > 64<<20 {
			t.Fatalf("%s: %d bytes of data at %d", path, to-from, from)
		}
		data := make([]byte, to-from)
		if _, err := f.ReadAt(data, from); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%d-%d %x\n", from, to, sha256.Sum256(data))
		at = to
	}
	return out.String()
}
