package backup

import (
	"bytes"
	"strings"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
)

// cacheTag marks a directory as a cache (https://bford.info/cachedir/): with the signature at its beginning, nothing
// but the tag itself is saved.
const cacheTag = "CACHEDIR.TAG"

const cacheSignature = "Signature: 8a477f597d28d172789f06886806bc55"

// isCacheTag reports whether the tag in an open directory has its signature.
func isCacheTag(fd int) bool {
	head, err := readHead(fd, cacheTag, len(cacheSignature))
	return err == nil && string(head) == cacheSignature
}

// readHead reads at most n bytes of a regular file in an open directory.
func readHead(dir int, name string, n int) ([]byte, error) {
	fd, err := openat(dir, appendName(nil, name), openRead)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, unix.EINVAL
	}
	head := make([]byte, min(int64(n), st.Size))
	m, err := readFull(fd, head, 0)
	return head[:m], err
}

// ignoreNames are the ignore files honoured on request; the later ones win.
var ignoreNames = [...]string{".gitignore", ".snapfsignore"}

const maxIgnoreFile = 4 << 20

// ignoreFiles adds the patterns of a directory's ignore files to what holds for all below it. A bad line counts as
// none, as with git.
func (w *walker) ignoreFiles(t *dirTask, fd int, names *nameList) {
	for _, name := range ignoreNames {
		if !names.find(name) {
			continue
		}
		data, err := readHead(fd, name, maxIgnoreFile)
		if err != nil {
			w.r.warn("ignore file " + joinPath(t.path(), name) + ": " + err.Error())
			continue
		}
		if len(data) == maxIgnoreFile { // the last line may have lost its end, and would match more
			w.r.warn("ignore file " + joinPath(t.path(), name) + ": only its first 4 MiB are read")
			data = data[:bytes.LastIndexByte(data, '\n')+1]
		}
		base := strings.TrimSuffix(string(t.relative(nil)), "/")
		t.ignore, _ = t.ignore.With(snapshot.ParsePatterns(bytes.Clone(data), base))
	}
}
