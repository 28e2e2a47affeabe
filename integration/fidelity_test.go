package integration

import (
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

// zoo is a source tree with everything a file system can hold. Tools cannot all see all of it: what takes more than
// they can stands in directories of its own.
//
//	plain/   what rsync, tar and find can compare
//	locked/  inode flags
//	huge/    a sparse file of a terabyte
//	deep/    deeper than PATH_MAX
type zoo struct{ dir string }

// newZoo builds the tree in dir. The test is skipped where the file system or the user cannot hold it.
func newZoo(t *testing.T, dir string) zoo {
	t.Helper()
	needRoot(t)
	needTools(t, "rsync", "getfattr", "setfattr", "setfacl", "chattr", "lsattr", "tar", "perl", "find")
	for _, part := range []string{"plain", "locked", "huge"} {
		if err := os.MkdirAll(filepath.Join(dir, part), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, script := range []string{zooKinds, zooLinks, zooXattrs, zooNames, zooMany} {
		sh(t, filepath.Join(dir, "plain"), script)
	}
	sh(t, dir, zooHuge)
	t.Cleanup(func() { sh(t, dir, `[ ! -d locked ] || chattr -f -R -i -a locked || true`) })
	sh(t, dir, zooLocked)
	sh(t, dir, zooDeep)
	// Last, as making entries changes the times of their directories.
	sh(t, filepath.Join(dir, "plain"), zooTimes)
	return zoo{dir}
}

const (
	zooKinds = `
mkdir -p d/e/f empty-dir
: >empty
echo hello >d/e/f/regular
head -c 3000000 /dev/urandom >random
for i in $(seq 300); do seq $((i * 100)) >d/seq$i; done
ln -s nowhere/at-all d/dangling
ln -s /etc/passwd absolute
ln -s "$(head -c 4095 /dev/zero | tr '\0' x)" longest
perl -MSocket -e 'socket(S,AF_UNIX,SOCK_STREAM,0) or die; chdir("d"); bind(S,pack_sockaddr_un("sock")) or die $!'
mkfifo d/fifo
mknod char c 1 3; mknod block b 7 200; mknod bignum c 511 1048575
for m in 0000 0001 0200 0444 0777 1777 2755 4755 6711 7777; do echo $m >mode$m; chmod $m mode$m; done
for m in 0000 0111 0700 1777 2755; do mkdir dir$m; echo in >dir$m/file; chmod $m dir$m; done
echo owned >owned; chown 12345:54321 owned
ln -s target owned-link; chown -h 2000000000:2000000001 owned-link
echo setid >setid-owned; chown 7:7 setid-owned; chmod 6755 setid-owned
truncate -s 64M sparse; for at in 0 5 17 63; do head -c 70000 /dev/urandom | dd of=sparse bs=64K seek=$((at * 16)) conv=notrunc status=none; done
truncate -s 10M holes-only
head -c 100000 /dev/urandom >ends-in-hole; truncate -s 5000001 ends-in-hole
`
	zooLinks = `
mkdir -p links/a links/b/c
echo shared >links/a/one; ln links/a/one links/b/two; ln links/a/one links/b/c/three
ln -s somewhere links/a/symlink; ln links/a/symlink links/b/symlink-too
mkfifo links/a/pipe; ln links/a/pipe links/b/pipe
mkdir links/many; echo many >links/many/0; perl -e 'link("links/many/0","links/many/$_") or die $! for 1..1999'
: >links/empty; ln links/empty links/empty2
`
	zooXattrs = `
mkdir -p x/dir; echo x >x/file; echo y >x/big
setfattr -n user.comment -v "some text" x/file; setfattr -n user.empty x/file
setfattr -n user.binary -v 0x00ff00fe0a0d x/file; setfattr -n trusted.secret -v t x/file
setfattr -n user.dir -v d x/dir; setfattr -n trusted.dir -v d x/dir
for i in 1 2 3 4 5; do setfattr -n user.large$i -v "$(head -c 400 /dev/zero | tr '\0' $i)" x/big; done
ln -s file x/link; setfattr -h -n trusted.onlink -v l x/link
cp /bin/true x/capable; setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 x/capable
echo a >x/acl; setfacl -m u:12345:rw,g:777:r,m::rwx x/acl; chmod 0640 x/acl
mkdir x/acldir; setfacl -m u:1:rwx,d:u:2:rx,d:g:3:rwx,d:o::- x/acldir; echo in >x/acldir/inherited; mkdir x/acldir/sub
echo both >x/both; setfacl -m u:5:r x/both; setfattr -n user.a -v 1 x/both; ln x/both x/both-link
mkfifo x/fifo; setfattr -n trusted.f -v p x/fifo
`
	zooNames = `
mkdir names; cd names
echo 1 >"$(head -c 255 /dev/zero | tr '\0' n)"; mkdir "$(head -c 255 /dev/zero | tr '\0' d)"; echo 2 >"$(head -c 255 /dev/zero | tr '\0' d)/in"
echo 3 >$'new\nline'; echo 4 >$'\xff\xfe not utf-8'; mkdir $'\xe4dir'; echo 5 >$'\xe4dir/\xf6'
echo 6 >./-rf; mkdir -- --help; echo 7 >./--help/-; echo 8 >' '; echo 9 >' lead and trail '; echo 10 >'*?[]{}$\` + "`" + `"'"'"
echo 11 >$'\t\r\x01\x7f'; echo 12 >...; echo 13 >'back\slash'; echo 14 >ünïcödé; echo 15 >'a:b'; echo 16 >.snapfs; echo 17 >'~'
echo 18 >A; echo 19 >a; perl -e 'for (1..255) { next if $_ == 47; open F, ">", "byte" . chr($_) or die $!; print F $_; close F }'
`
	zooMany = `mkdir many; cd many; perl -e 'for (1..3000) { open F, ">", "entry-$_" or die $!; print F $_ if $_ % 3 }'`
	zooHuge = `
truncate -s 1T huge/sparse; for at in 0 1 500000 1000000 1048575; do echo island $at | dd of=huge/sparse bs=1M seek=$at conv=notrunc status=none; done
touch -d '2001-02-03 04:05:06.123456789' huge/sparse
`
	zooLocked = `
cd locked; mkdir dir frozen; echo i >immutable; echo a >append; echo d >nodump; echo n >dir/noatime; echo s >dir/sync; echo in >frozen/in; echo l >linked; ln linked linked2
chattr +d nodump; chattr +A dir/noatime; chattr +S dir/sync; chattr +D dir; chattr +d linked; chattr +a append; chattr +i immutable frozen
`
	zooDeep  = `perl -e '$n = "d" x 200; mkdir "deep"; chdir "deep" or die $!; for (1..40) { mkdir $n or die $!; chdir $n or die $! } open F, ">", "bottom"; print F "deep down"; symlink "x", "link"; mkdir "empty"; link "bottom", "twin"'`
	zooTimes = `
echo past >past; touch -d '1955-11-05 06:15:00.000000001' past; echo future >future; touch -d '2155-10-21 07:28:00.999999999' future
touch -h -d '1969-12-31 23:59:59.500000000' absolute; echo epoch >epoch; touch -d @0 epoch; touch -d '2038-01-19 03:14:08.25' d/e/f/regular
touch -d '1931-01-01 00:00:00.123456789' d/e/f; touch -d '2222-02-22 22:22:22.222222222' empty-dir; touch -d '2020-02-02 02:02:02.020202020' d
`
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
