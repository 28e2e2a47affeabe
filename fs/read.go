package fs

import (
	"errors"
	"io"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"snapfs/snapshot"
	"snapfs/store"
)

const (
	// readSize is the largest read request.
	readSize = 1 << 20
	// aheadBytes is how far beyond a request in sequence chunks are fetched.
	aheadBytes = 4 << 20
	// seqSlack is how far requests in sequence may come out of order: the kernel sends several at once.
	seqSlack = 2 * readSize
	// maxPieces bounds the pieces of a reply: the system takes 1024. More, tiny ones, are copied together.
	maxPieces = 256
)

// zeros is what holes read as.
var zeros [readSize]byte

// stream remembers how far a file is read and fetched.
type stream struct {
	next  int64 // end of the last request
	ahead int64 // everything before was asked for
}

// piece is a part of a chunk, or of a hole if id is zero.
type piece struct {
	id       store.ID
	length   int64 // of the whole chunk
	from, to int64 // within the chunk
}

// Read answers with the stored chunks themselves, not with a copy.
func (s *server) Read(_ <-chan struct{}, in *fuse.ReadIn, _ []byte) (fuse.ReadResult, fuse.Status) {
	if slot, _ := splitID(in.NodeId); slot == 0 {
		return nil, fuse.EINVAL
	}
	n, err := s.node(in.NodeId)
	if err != nil {
		return nil, s.fail("read", in.NodeId, err)
	}
	if n.Type != snapshot.TypeFile {
		return nil, fuse.EINVAL
	}
	off := int64(in.Offset)
	size := min(int64(in.Size), n.Size-off)
	if off < 0 || size <= 0 {
		return fuse.ReadResultData(nil), fuse.OK
	}
	r, err := s.read(in.NodeId, &n, off, size)
	if err != nil {
		return nil, s.fail("read", in.NodeId, err)
	}
	s.pusher.read(in.NodeId, &n)
	return r, fuse.OK
}

// read returns size bytes of a file in pieces.
func (s *server) read(id uint64, n *node, off, size int64) (*reply, error) {
	pieces, err := s.pieces(id, n, off, size)
	if err != nil {
		return nil, err
	}
	r := &reply{cache: s.chunks, data: make([][]byte, 0, len(pieces)), size: int(size)}
	for _, p := range pieces {
		if err := s.append(r, p); err != nil {
			r.Done()
			return nil, err
		}
	}
	if len(r.data) > maxPieces {
		joined, _ := r.Bytes(make([]byte, 0, size))
		r.data = [][]byte{joined}
	}
	return r, nil
}

// append adds a piece to a reply.
func (s *server) append(r *reply, p piece) error {
	if p.id.IsZero() {
		r.data = appendZeros(r.data, p.to-p.from)
		return nil
	}
	data, err := s.chunk(r, p)
	if err != nil {
		return err
	}
	if p.to > int64(len(data)) {
		return errShortChunk
	}
	r.data = append(r.data, data[p.from:p.to])
	return nil
}

// chunk returns a chunk's bytes, valid until the reply is done.
func (s *server) chunk(r *reply, p piece) ([]byte, error) {
	if p.length < largeChunk {
		return s.src.Get(s.ctx, store.KindChunk, p.id)
	}
	ch, err := s.chunks.get(p.id, p.length)
	if err != nil {
		return nil, err
	}
	r.chunks, r.usedUp = append(r.chunks, ch), append(r.usedUp, p.to == p.length)
	return ch.data, nil
}

var errShortChunk = errors.New("chunk is shorter than its file says")

func appendZeros(data [][]byte, n int64) [][]byte {
	for n > 0 {
		k := min(n, readSize)
		data = append(data, zeros[:k:k])
		n -= k
	}
	return data
}

// pieces finds what a read needs, and starts to read what will be needed next: the other chunks of the request, and
// when the file is read in sequence those that follow.
func (s *server) pieces(id uint64, n *node, off, size int64) ([]piece, error) {
	end := off + size
	if items := n.Content.Items; len(items) == 1 && items[0].Length >= end {
		return []piece{{items[0].ID, items[0].Length, off, end}}, nil
	}
	was, now := s.sequence(id, n, off, end)
	var pieces []piece
	err := n.Items(s.ctx, n.Entry, off, func(at int64, it snapshot.Item) bool {
		if at < end {
			pieces = append(pieces, piece{it.ID, it.Length, max(off-at, 0), min(end-at, it.Length)})
		}
		if it.Length >= largeChunk && !it.ID.IsZero() && at > off && at >= was.ahead && at < now.ahead {
			s.chunks.ahead(it.ID, it.Length)
		}
		return at+it.Length < max(end, now.ahead)
	})
	if err == nil && covered(pieces) != size {
		err = errShortList
	}
	return pieces, err
}

var errShortList = errors.New("list of chunks is shorter than its file says")

func covered(pieces []piece) int64 {
	var n int64
	for _, p := range pieces {
		n += p.to - p.from
	}
	return n
}

// sequence notes a read and returns the stream before and after it.
func (s *server) sequence(id uint64, n *node, off, end int64) (was, now stream) {
	was, ok := s.streams.get(id)
	inSequence := ok && off >= was.next-seqSlack && off <= was.next+seqSlack
	now = stream{next: end, ahead: end}
	if inSequence {
		now.next = max(end, was.next)
		now.ahead = min(max(was.ahead, end+aheadBytes), n.Size)
	} else {
		was = stream{}
	}
	s.streams.put(id, now)
	return was, now
}

// Lseek answers SEEK_DATA and SEEK_HOLE; the kernel knows the rest itself.
func (s *server) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	if slot, _ := splitID(in.NodeId); slot == 0 {
		return fuse.EINVAL
	}
	n, err := s.node(in.NodeId)
	if err != nil {
		return s.fail("seek", in.NodeId, err)
	}
	if n.Type != snapshot.TypeFile {
		return fuse.EINVAL
	}
	off := int64(in.Offset)
	if off < 0 || off >= n.Size {
		return fuse.Status(syscall.ENXIO)
	}
	switch in.Whence {
	case unix.SEEK_DATA:
		off, err = n.NextData(s.ctx, n.Entry, off)
	case unix.SEEK_HOLE:
		off, err = n.NextHole(s.ctx, n.Entry, off)
	default:
		return fuse.EINVAL
	}
	if errors.Is(err, io.EOF) {
		return fuse.Status(syscall.ENXIO)
	}
	if err != nil {
		return s.fail("seek", in.NodeId, err)
	}
	out.Offset = uint64(off)
	return fuse.OK
}
