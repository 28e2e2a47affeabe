package backup

import (
	"bytes"
	"math"
	"slices"

	"golang.org/x/sys/unix"
)

// nameList holds the names of a directory, sorted by bytes, without a string for each: about 10 bytes more than
// the names themselves, so that a directory of a million entries costs tens of megabytes at most.
type nameList struct {
	text []byte // names, each with its NUL
	refs []nameRef
}

type nameRef struct {
	offset uint32
	length uint16 // without the NUL
}

func (l *nameList) len() int { return len(l.refs) }

// at returns a name with its NUL; valid until reset.
func (l *nameList) at(i int) cname {
	r := l.refs[i]
	return cname(l.text[r.offset : int(r.offset)+int(r.length)+1])
}

// bytesAt returns a name without its NUL.
func (l *nameList) bytesAt(i int) []byte {
	r := l.refs[i]
	return l.text[r.offset : int(r.offset)+int(r.length)]
}

func (l *nameList) reset() { l.text, l.refs = l.text[:0], l.refs[:0] }

func (l *nameList) add(name []byte) {
	l.refs = append(l.refs, nameRef{offset: uint32(len(l.text)), length: uint16(len(name))})
	l.text = append(append(l.text, name...), 0)
}

// sort orders the names and drops duplicates, which a directory that changes while it is read can give.
func (l *nameList) sort() {
	byName := func(a, b nameRef) int {
		return bytes.Compare(l.text[a.offset:int(a.offset)+int(a.length)], l.text[b.offset:int(b.offset)+int(b.length)])
	}
	slices.SortFunc(l.refs, byName)
	l.refs = slices.CompactFunc(l.refs, func(a, b nameRef) bool { return byName(a, b) == 0 })
}

// read fills the list from an open directory.
func (l *nameList) read(fd int, buf []byte) error {
	l.reset()
	for {
		n, err := getdents(fd, buf)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		if len(l.text) > math.MaxUint32-len(buf) {
			return unix.EOVERFLOW
		}
		eachDirent(buf[:n], l.add)
	}
	l.sort()
	return nil
}

// find returns whether a name is in the list.
func (l *nameList) find(name string) bool {
	_, ok := slices.BinarySearchFunc(l.refs, name, func(r nameRef, s string) int {
		return bytes.Compare(l.text[r.offset:int(r.offset)+int(r.length)], []byte(s))
	})
	return ok
}
