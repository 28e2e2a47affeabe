package restore

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"

	"snapfs/snapshot"
)

const tarBlock = 512

// Kinds of tar members.
const (
	tarFile    = '0'
	tarLink    = '1'
	tarSymlink = '2'
	tarChar    = '3'
	tarBlockD  = '4'
	tarDir     = '5'
	tarFIFO    = '6'
	tarExtra   = 'x'
)

// tarHeader is what stands before a member's data. Strings may hold any bytes.
type tarHeader struct {
	name, link   string
	kind         byte
	mode         uint32
	uid, gid     uint32
	user, group  string
	size         int64
	mtime        snapshot.Time
	major, minor uint32
	extra        []paxRecord
}

// paxRecord is an extended header record (POSIX.1-2001, pax): what the fixed fields cannot hold, and attributes.
type paxRecord struct{ key, value string }

// tarWriter writes members. After an error it is of no use.
type tarWriter struct {
	w     *bufio.Writer
	wrote int64 // bytes of the present member's data
	zero  [32 << 10]byte
}

func newTarWriter(w io.Writer) *tarWriter { return &tarWriter{w: bufio.NewWriterSize(w, 256<<10)} }

// header begins a member. What does not fit the fixed fields goes into records before it.
func (t *tarWriter) header(h *tarHeader) error {
	records := h.records()
	if len(records) > 0 {
		var body bytes.Buffer
		for _, r := range records {
			body.WriteString(r.encode())
		}
		x := tarHeader{name: "PaxHeaders/" + ascii(path.Base(h.name), 80), kind: tarExtra, mode: 0o644, size: int64(body.Len())}
		if h.mtime.Sec > 0 {
			x.mtime.Sec = h.mtime.Sec
		}
		if _, err := t.w.Write(x.block()); err != nil {
			return err
		}
		t.wrote = 0
		if err := t.data(body.Bytes()); err != nil {
			return err
		}
		if err := t.pad(); err != nil {
			return err
		}
	}
	t.wrote = 0
	_, err := t.w.Write(h.block())
	return err
}

// data writes content of the present member.
func (t *tarWriter) data(p []byte) error {
	n, err := t.w.Write(p)
	t.wrote += int64(n)
	return err
}

// zeros writes n zero bytes of content.
func (t *tarWriter) zeros(n int64) error {
	for n > 0 {
		part := min(n, int64(len(t.zero)))
		if err := t.data(t.zero[:part]); err != nil {
			return err
		}
		n -= part
	}
	return nil
}

// pad fills the last block of a member.
func (t *tarWriter) pad() error {
	if n := t.wrote % tarBlock; n != 0 {
		return t.zeros(tarBlock - n)
	}
	return nil
}

// close ends the archive.
func (t *tarWriter) close() error {
	if err := t.zeros(2 * tarBlock); err != nil {
		return err
	}
	return t.w.Flush()
}

// records are the header's own extra records and those of fields that do not fit.
func (h *tarHeader) records() []paxRecord {
	var out []paxRecord
	text := func(key, s string, width int) {
		if len(s) > width || s != ascii(s, width) {
			out = append(out, paxRecord{key, s})
		}
	}
	number := func(key string, n int64, digits int) {
		if !octalFits(n, digits) {
			out = append(out, paxRecord{key, strconv.FormatInt(n, 10)})
		}
	}
	text("path", h.name, 100)
	text("linkpath", h.link, 100)
	text("uname", h.user, 31)
	text("gname", h.group, 31)
	number("size", h.size, 11)
	number("uid", int64(h.uid), 7)
	number("gid", int64(h.gid), 7)
	number("SCHILY.devmajor", int64(h.major), 7)
	number("SCHILY.devminor", int64(h.minor), 7)
	if h.mtime.Nsec != 0 || !octalFits(h.mtime.Sec, 11) {
		out = append(out, paxRecord{"mtime", paxTime(h.mtime)})
	}
	out = append(out, h.extra...)
	for _, r := range out {
		if !strings.HasPrefix(r.key, "SCHILY.xattr.") && !utf8.ValidString(r.value) {
			return append([]paxRecord{{"hdrcharset", "BINARY"}}, out...)
		}
	}
	return out
}

// encode gives "LENGTH KEY=VALUE\n", where LENGTH counts itself.
func (r paxRecord) encode() string {
	rest := " " + r.key + "=" + r.value + "\n"
	n := len(rest)
	for size := n + 1; ; size = n + len(strconv.Itoa(size)) {
		if s := strconv.Itoa(size); len(s)+n == size {
			return s + rest
		}
	}
}

// block is the fixed header (POSIX.1-1988, ustar).
func (h *tarHeader) block() []byte {
	b := make([]byte, tarBlock)
	copy(b[0:100], fixed(h.name, 100))
	octal(b[100:108], int64(h.mode))
	octal(b[108:116], int64(h.uid))
	octal(b[116:124], int64(h.gid))
	octal(b[124:136], h.size)
	octal(b[136:148], h.mtime.Sec)
	b[156] = h.kind
	copy(b[157:257], fixed(h.link, 100))
	copy(b[257:265], "ustar\x0000")
	copy(b[265:296], fixed(h.user, 31))
	copy(b[297:328], fixed(h.group, 31))
	if h.kind == tarChar || h.kind == tarBlockD {
		octal(b[329:337], int64(h.major))
		octal(b[337:345], int64(h.minor))
	}
	copy(b[148:156], "        ")
	sum := int64(0)
	for _, c := range b {
		sum += int64(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// octal writes a number that a record takes precedence over if it does not fit.
func octal(field []byte, n int64) {
	digits := len(field) - 1
	if !octalFits(n, digits) {
		n = 0
	}
	copy(field, fmt.Sprintf("%0*o\x00", digits, n))
}

func octalFits(n int64, digits int) bool { return n >= 0 && n < 1<<(3*digits) }

// fixed is what stands in a fixed field: the string, or a hint of it where a record has the full one.
func fixed(s string, width int) string {
	if len(s) <= width && s == ascii(s, width) {
		return s
	}
	return ascii(path.Base(s), width)
}

// ascii shortens s and replaces what is not ASCII.
func ascii(s string, width int) string {
	clean := true
	for i := 0; i < len(s); i++ {
		clean = clean && s[i] < utf8.RuneSelf
	}
	if clean && len(s) <= width {
		return s
	}
	b := []byte(s)
	for i, c := range b {
		if c >= utf8.RuneSelf {
			b[i] = '_'
		}
	}
	return string(b[:min(len(b), width)])
}

// paxTime is decimal seconds with a fraction; before 1970 negative.
func paxTime(t snapshot.Time) string {
	sec, nsec, sign := t.Sec, int64(t.Nsec), ""
	if sec < 0 {
		sign, sec = "-", -sec
		if nsec > 0 {
			sec, nsec = sec-1, 1e9-nsec
		}
	}
	if nsec == 0 {
		return fmt.Sprintf("%s%d", sign, sec)
	}
	return sign + strings.TrimRight(fmt.Sprintf("%d.%09d", sec, nsec), "0")
}
