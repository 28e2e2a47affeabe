package store

import (
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"snapfs/store/seal"
	"snapfs/store/volume"
)

// reader turns blob IDs into plaintext: it asks the session for places, reads frames from the volumes itself where it
// can (else through the session), opens them, and keeps decoded ones. Safe for concurrent use.
type reader struct {
	dir     string
	bundle  *seal.Bundle
	session blobSource
	open    func(volume.ID) (*openedVolume, error)
	cache   *frameCache
	damaged damagedFrames

	prefetches chan struct{} // slots of running prefetches
	running    sync.WaitGroup

	mu      sync.Mutex
	volumes map[volume.ID]*openedVolume
	sweep   *time.Timer // closes volumes that nobody reads any more; nil: none is open
	closed  bool
}

// blobSource is what a reader needs of a session.
type blobSource interface {
	Locate(ctx context.Context, ids []ID) ([]Place, error)
	Read(ctx context.Context, v volume.ID, offset int64, n int) ([]byte, error)
	Damaged(ctx context.Context, found []DamagedFrame) error
}

// openedVolume is a volume open for reading. Those that the reader no longer keeps are closed by their last user.
type openedVolume struct {
	file  *os.File    // nil: read through the session, or from bare
	bare  *BareVolume // one that is no file of a store
	aead  cipher.AEAD
	trail trail

	users   int       // guarded by reader.mu, as what follows
	dropped bool      // no longer among the reader's
	last    time.Time // when somebody last left it
}

// maxOpened bounds the descriptors a reader keeps.
const maxOpened = 128

// keepOpened is how long a volume stays open that nobody reads: a volume that was removed gives its space back only when
// everybody has closed it, and whoever is idle never learns of the removal.
const keepOpened = time.Second

func newReader(dir string, b *seal.Bundle, s blobSource, cacheBytes int64) *reader {
	r := &reader{
		dir: dir, bundle: b, session: s, cache: newFrameCache(cacheBytes),
		prefetches: make(chan struct{}, 4), volumes: map[volume.ID]*openedVolume{},
	}
	r.open = r.openOfStore
	return r
}

// get returns a blob, from the cache if it is there.
func (r *reader) get(ctx context.Context, kind Kind, id ID) ([]byte, error) {
	data, err := r.lookAndRead(ctx, kind, id)
	return data, r.noted(ctx, err)
}

func (r *reader) lookAndRead(ctx context.Context, kind Kind, id ID) ([]byte, error) {
	if data, ok := r.cache.find(id); ok {
		return data, nil
	}
	return r.atPlace(ctx, kind, id, func(p Place) ([]byte, error) { return r.cached(ctx, p, kind, id) })
}

// atPlace reads a blob where it lies. What is not there may have moved since its place was asked for, because prune moved it
// and removed the volume: only a blob that is still said to lie there is damaged.
func (r *reader) atPlace(ctx context.Context, kind Kind, id ID, read func(Place) ([]byte, error)) ([]byte, error) {
	p, err := r.place(ctx, kind, id)
	for err == nil {
		var data []byte
		var damage *CorruptError
		if data, err = read(p); !errors.As(err, &damage) {
			return data, err
		}
		now, placeErr := r.place(ctx, kind, id)
		if placeErr != nil || now == p {
			return nil, err
		}
		p, err = now, nil
	}
	return nil, err
}

// cached reads a blob through the cache.
func (r *reader) cached(ctx context.Context, p Place, kind Kind, id ID) ([]byte, error) {
	f, err := r.cache.load(ctx, frameKey{p.Volume, p.Offset}, func() (*cachedFrame, error) { return r.frame(ctx, p, id) })
	if err != nil {
		return nil, err
	}
	return f.blob(kind, id, p)
}

func (r *reader) place(ctx context.Context, kind Kind, id ID) (Place, error) {
	places, err := r.session.Locate(ctx, []ID{id})
	if err != nil {
		return Place{}, err
	}
	if places[0].IsZero() {
		return Place{}, &MissingError{Kind: kind, ID: id}
	}
	return places[0], nil
}

// getInto is get that neither fills the cache with a frame of one large blob nor allocates if dst suffices.
func (r *reader) getInto(ctx context.Context, kind Kind, id ID, dst []byte) ([]byte, error) {
	data, err := r.readInto(ctx, kind, id, dst)
	return data, r.noted(ctx, err)
}

func (r *reader) readInto(ctx context.Context, kind Kind, id ID, dst []byte) ([]byte, error) {
	if data, ok := r.cache.find(id); ok {
		return append(dst[:0], data...), nil
	}
	return r.atPlace(ctx, kind, id, func(p Place) ([]byte, error) {
		if p.Start != 0 || p.Length < aloneLimit {
			data, err := r.cached(ctx, p, kind, id)
			return append(dst[:0], data...), err
		}
		return r.alone(ctx, p, kind, id, dst)
	})
}

// alone reads a blob that has a frame of its own.
func (r *reader) alone(ctx context.Context, p Place, kind Kind, id ID, dst []byte) ([]byte, error) {
	buf := storedBuffers.Get().(*[]byte)
	defer storedBuffers.Put(buf)
	pack, err := r.openPack(ctx, p, id, buf)
	if err != nil {
		return nil, err
	}
	start, length, ok := pack.Find(uint8(kind), id)
	if !ok {
		return nil, corrupt(p, id, errors.New("the frame does not hold the blob"))
	}
	body, err := pack.Body(dst[:0])
	if err != nil {
		return nil, corrupt(p, id, err)
	}
	if start == 0 && len(dst) > 0 && len(body) > 0 && &body[0] == &dst[0] {
		return body[:length], nil
	}
	return append(dst[:0], body[start:start+length]...), nil
}

// storedBuffers are for frames as stored, which are needed only while they are opened.
var storedBuffers = sync.Pool{New: func() any { return new([]byte) }}

// frame reads and decodes a whole frame for the cache.
func (r *reader) frame(ctx context.Context, p Place, id ID) (*cachedFrame, error) {
	buf := storedBuffers.Get().(*[]byte)
	defer storedBuffers.Put(buf)
	pack, err := r.openPack(ctx, p, id, buf)
	if err != nil {
		return nil, err
	}
	body, err := pack.Body(make([]byte, 0, int(pack.RawLength)+volume.BodySlack))
	if err != nil {
		return nil, corrupt(p, id, err)
	}
	if pack.Codec == volume.CodecNone { // it lies in the buffer
		body = append([]byte(nil), body...)
	}
	return newCachedFrame(pack.Blobs, body), nil
}

// openPack reads a frame into buf, verifies and opens it. If that fails and the volume's file has been exchanged for a repaired
// one, it is tried there.
func (r *reader) openPack(ctx context.Context, p Place, id ID, buf *[]byte) (volume.Pack, error) {
	pack, err := r.openPackOnce(ctx, p, id, buf)
	if err != nil && ctx.Err() == nil && r.dropExchanged(p.Volume) {
		return r.openPackOnce(ctx, p, id, buf)
	}
	return pack, err
}

// dropExchanged gives up an open volume whose name leads to another file now, and reports whether there was one.
func (r *reader) dropExchanged(id volume.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := r.volumes[id]
	if v == nil || v.file == nil {
		return false
	}
	mine, err := v.file.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(volumePath(r.dir, id))
	if err != nil || os.SameFile(mine, named) {
		return false
	}
	delete(r.volumes, id)
	v.dropped = true
	_ = v.close()
	return true
}

// openPlain reads a frame into buf, verifies and opens it; the plaintext lies there.
func (r *reader) openPlain(ctx context.Context, p Place, id ID, buf *[]byte) ([]byte, error) {
	v, err := r.use(p.Volume)
	if err != nil {
		return nil, err
	}
	defer r.leave(v)
	stored, err := r.stored(ctx, v, p, buf)
	if err != nil {
		return nil, corrupt(p, id, err)
	}
	h, plain, err := volume.OpenFrame(stored, p.Volume, v.aead)
	if err != nil {
		return nil, corrupt(p, id, err)
	}
	if h.Kind != volume.FrameBlobs {
		return nil, corrupt(p, id, fmt.Errorf("frame of kind %d where blobs were expected", h.Kind))
	}
	return plain, nil
}

func (r *reader) openPackOnce(ctx context.Context, p Place, id ID, buf *[]byte) (volume.Pack, error) {
	plain, err := r.openPlain(ctx, p, id, buf)
	if err != nil {
		return volume.Pack{}, err
	}
	pack, err := volume.ParsePack(plain)
	if err != nil {
		return volume.Pack{}, corrupt(p, id, err)
	}
	return pack, nil
}

func (r *reader) stored(ctx context.Context, v *openedVolume, p Place, buf *[]byte) ([]byte, error) {
	if v.file == nil && v.bare == nil {
		return r.session.Read(ctx, p.Volume, p.Offset, int(p.Stored))
	}
	if cap(*buf) < int(p.Stored) {
		*buf = make([]byte, max(int(p.Stored), 1<<18))
	}
	b := (*buf)[:p.Stored]
	n, err := v.readAt(b, p.Offset)
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("the volume ends in the frame: %d of %d bytes", n, p.Stored)
	}
	if from, to := v.trail.passed(p.Offset, int64(p.Stored)); to > from {
		v.forget(from, to-from)
	}
	return b, err
}

func (v *openedVolume) readAt(b []byte, offset int64) (int, error) {
	if v.bare != nil {
		return v.bare.Source.ReadAt(b, offset)
	}
	return v.file.ReadAt(b, offset)
}

// forget drops pages that were read.
func (v *openedVolume) forget(from, length int64) {
	file, base := v.file, int64(0)
	if v.bare != nil {
		file, base = v.bare.Pages, v.bare.Base
	}
	if file != nil {
		_ = unix.Fadvise(int(file.Fd()), base+from, length, unix.FADV_DONTNEED)
	}
}

// use returns a volume for reading, opening it if needed, until leave.
func (r *reader) use(id volume.ID) (*openedVolume, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrClosed
	}
	if v := r.volumes[id]; v != nil {
		v.users++
		return v, nil
	}
	v, err := r.open(id)
	if err != nil {
		return nil, err
	}
	if len(r.volumes) >= maxOpened {
		r.dropOne()
	}
	v.users = 1
	r.volumes[id] = v
	if r.sweep == nil {
		r.sweep = time.AfterFunc(keepOpened, r.closeIdle)
	}
	return v, nil
}

// openOfStore opens a volume of the store's directory; one that cannot be opened is read through the session.
func (r *reader) openOfStore(id volume.ID) (*openedVolume, error) {
	aead, err := r.bundle.VolumeAEAD(id)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(volumePath(r.dir, id))
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("volume %s: %w", id, err)
	}
	if err != nil {
		file = nil
	}
	return &openedVolume{file: file, aead: aead}, nil
}

// closeIdle closes what nobody has read for a while, and comes again as long as anything is open.
func (r *reader) closeIdle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	for id, v := range r.volumes {
		if v.users == 0 && time.Since(v.last) >= keepOpened {
			delete(r.volumes, id)
			v.dropped = true
			_ = v.close() // it was only read
		}
	}
	r.sweep = nil
	if len(r.volumes) > 0 {
		r.sweep = time.AfterFunc(keepOpened, r.closeIdle)
	}
}

// leave ends the use of a volume.
func (r *reader) leave(v *openedVolume) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v.last = time.Now()
	if v.users--; v.dropped {
		_ = v.close() // it was only read
	}
}

// dropOne forgets some volume. Needs mu.
func (r *reader) dropOne() {
	for id, v := range r.volumes {
		delete(r.volumes, id)
		v.dropped = true
		_ = v.close()
		return
	}
}

// close closes a volume that nobody uses. Needs mu.
func (v *openedVolume) close() error {
	if v.users > 0 || v.file == nil {
		return nil
	}
	return v.file.Close()
}

var errVolumeGone = errors.New("the volume's file is gone")

// corrupt names the frame and the blob that was asked for.
func corrupt(p Place, id ID, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = errVolumeGone // an absent volume must never look like an absent name of a directory
	}
	return &CorruptError{Volume: p.Volume, Offset: p.Offset, ID: id, Err: err}
}

// prefetch loads frames in the background; when enough are on their way it does nothing.
func (r *reader) prefetch(kind Kind, ids []ID) {
	for _, id := range ids {
		if _, ok := r.cache.find(id); ok {
			continue
		}
		select {
		case r.prefetches <- struct{}{}:
		default:
			return
		}
		r.mu.Lock()
		closed := r.closed
		if !closed {
			r.running.Add(1)
		}
		r.mu.Unlock()
		if closed {
			<-r.prefetches
			return
		}
		go func() {
			defer func() { <-r.prefetches; r.running.Done() }()
			_, _ = r.get(context.Background(), kind, id) // whoever needs it meets the error
		}()
	}
}

func (r *reader) close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.running.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	if r.sweep != nil {
		r.sweep.Stop()
	}
	for _, v := range r.volumes {
		v.dropped = true
		errs = append(errs, v.close())
	}
	r.volumes = nil
	return errors.Join(errs...)
}
