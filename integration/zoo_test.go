package integration

import (
	"os"
	"path/filepath"
	"testing"
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
