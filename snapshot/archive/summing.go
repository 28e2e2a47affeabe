package archive

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"snapfs/store"
	"snapfs/store/volume"
)

// parityMaker adds volumes up. It does so in one of two ways. While they are written: each volume then costs reading and writing all sums once,
// which is the only way where volumes go away. Or, where volumes stay in a directory, by reading them again when the sums are needed, all at once:
// that writes the sums only once. Sums may then be behind the catalogue.
type parityMaker struct {
	*sums
	again  bool
	cached int64 // so many bytes of volumes to be read again are left in the page cache

	now *watching
}

// manyRows is from how many parity volumes on it is faster to read volumes again than to read and write so many sums with each, also
// where these are on another disk.
const manyRows = 3

// newParityMaker chooses the way. kept is the directory where volumes stay, "" if there is none.
func newParityMaker(s *sums, kept string) *parityMaker {
	p := &parityMaker{sums: s}
	p.again = kept != "" && (s.m >= manyRows || sameDevice(s.dir, kept))
	if info := (unix.Sysinfo_t{}); p.again && unix.Sysinfo(&info) == nil {
		p.cached = int64(info.Freeram) * int64(info.Unit) / 2 // memory that nobody uses
	}
	return p
}

func sameDevice(a, b string) bool {
	var sa, sb unix.Stat_t
	return unix.Stat(a, &sa) == nil && unix.Stat(b, &sb) == nil && sa.Dev == sb.Dev
}

// watching is a volume that is being written: it is named, and added to the sums if that is not done later.
type watching struct {
	number uint32
	digest hash.Hash
	step   *step // nil: it is read again later
	seen   int64

	block  []byte
	full   chan []byte
	spare  chan []byte
	stop   sync.Once
	beside errgroup.Group // of run
}

// watchBlock is the piece in which bytes go from whoever writes the volume to whoever adds them up.
const (
	watchBlock  = 1 << 20
	watchBlocks = 4
)

// watch begins a volume; what it returns takes its bytes.
func (p *parityMaker) watch(number uint32) (io.Writer, error) {
	p.close()
	w := &watching{
		number: number, digest: volume.NewDigest(), block: make([]byte, 0, watchBlock),
		full: make(chan []byte, watchBlocks), spare: make(chan []byte, watchBlocks),
	}
	if !p.again {
		from := uint32(0)
		if _, n := groupOf(number); n > 0 {
			from = number - 1
		}
		var err error
		if w.step, err = p.step(from, number, watchBlock); err != nil {
			return nil, err
		}
	}
	for range watchBlocks - 1 {
		w.spare <- make([]byte, 0, watchBlock)
	}
	w.beside.Go(w.run)
	p.now = w
	return w, nil
}

// run works beside whoever writes the volume, who is told of an error in the end.
func (w *watching) run() (err error) {
	for b := range w.full {
		w.digest.Write(b)
		if err == nil && w.step != nil {
			err = w.add(b)
		}
		w.spare <- b[:0]
	}
	return err
}

func (w *watching) add(b []byte) error {
	if err := w.step.load(len(b)); err != nil {
		return err
	}
	if err := w.step.add(w.number, b); err != nil {
		return err
	}
	return w.step.store()
}

// Write takes the next bytes of the volume.
func (w *watching) Write(p []byte) (int, error) {
	taken := len(p)
	w.seen += int64(taken)
	for len(p) > 0 {
		n := min(len(p), watchBlock-len(w.block))
		w.block = append(w.block, p[:n]...)
		if p = p[n:]; len(w.block) == watchBlock {
			w.full <- w.block
			w.block = <-w.spare
		}
	}
	return taken, nil
}

// wait ends the work beside.
func (w *watching) wait() error {
	w.stop.Do(func() {
		w.full <- w.block
		close(w.full)
	})
	return w.beside.Wait()
}

// complete ends the volume that was watched, and returns its digest.
func (p *parityMaker) complete(number uint32, size int64) (d [32]byte, err error) {
	w := p.now
	if w == nil || w.number != number || w.seen != size {
		return d, fmt.Errorf("%w: sums of volume %d", ErrParityLost, number)
	}
	if err := w.wait(); err != nil {
		return d, err
	}
	if w.step != nil {
		if err := w.step.complete(); err != nil {
			return d, err
		}
	}
	w.digest.Sum(d[:0])
	p.close()
	return d, nil
}

// close gives up the volume that is being watched.
func (p *parityMaker) close() {
	w := p.now
	if w == nil {
		return
	}
	_ = w.wait() // of no use any more, or told before
	if w.step != nil {
		w.step.stop()
	}
	p.now = nil
}

// entered lets go of what the sums over a volume that the catalogue has make superfluous.
func (p *parityMaker) entered(number uint32) error {
	if p.again {
		return nil
	}
	_, n := groupOf(number)
	return p.settled(number, n < volume.SetData-1)
}

// behind lists the volumes of a group that are not in its sums, and the last one that is.
func (p *parityMaker) behind(group int, volumes []store.ArchiveVolume) (missing []store.ArchiveVolume, last uint32, err error) {
	upTo := uint32(0)
	for _, v := range volumes {
		if g, _ := groupOf(v.Number); !v.Parity && g == group {
			upTo = max(upTo, v.Number)
		}
	}
	if last, err = p.last(group, upTo); err != nil {
		return nil, 0, err
	}
	for _, v := range volumes {
		if g, _ := groupOf(v.Number); !v.Parity && g == group && v.Number > last {
			missing = append(missing, v)
		}
	}
	return missing, last, nil
}

// openAgain opens a volume that was written; ErrParityLost if it is not there any more.
func openAgain(v *store.ArchiveVolume) (*os.File, error) {
	info, err := os.Stat(v.Where)
	if err == nil && (!info.Mode().IsRegular() || info.Size() != v.Size) {
		err = fmt.Errorf("%s: not volume %d as it was written", v.Where, v.Number)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrParityLost, err)
	}
	return os.Open(v.Where)
}

// catchUp reads volumes of a group again and adds them to the sums over those up to one.
func (p *parityMaker) catchUp(ctx context.Context, volumes []store.ArchiveVolume, last uint32, progress func(int64)) error {
	c := &catchingUp{block: catchUpBlock(p.m), progress: progress}
	defer c.close()
	for i := range volumes {
		f, err := openAgain(&volumes[i])
		if err != nil {
			return err
		}
		c.volumes = append(c.volumes, readAgain{ArchiveVolume: volumes[i], file: f, digest: volume.NewDigest()})
		c.longest = max(c.longest, volumes[i].Size)
	}
	to := volumes[len(volumes)-1].Number
	var err error
	if c.step, err = p.step(last, to, c.block); err != nil {
		return err
	}
	defer c.step.stop()
	if err := c.run(ctx); err != nil {
		return err
	}
	for _, v := range c.volumes {
		if [32]byte(v.digest.Sum(nil)) != v.Digest {
			return fmt.Errorf("%w: %s: not volume %d as it was written", ErrParityLost, v.Where, v.Number)
		}
	}
	if err := c.step.complete(); err != nil {
		return err
	}
	return p.settled(to, false)
}

// catchUpBlock is how much is read at once of each volume: much, for disks that have to seek, but all blocks together are bounded.
func catchUpBlock(rows int) int {
	const budget, most = 32 << 20, 8 << 20
	return min(most, budget/(rows+catchUpBlocks)>>20<<20)
}

// catchUpBlocks is how many blocks of volumes there are.
const catchUpBlocks = 3

// catchingUp reads one block of each volume, then the next of each: so each byte of the sums is written once.
type catchingUp struct {
	volumes  []readAgain
	longest  int64
	block    int
	step     *step
	progress func(int64)
}

type readAgain struct {
	store.ArchiveVolume
	file   *os.File
	digest hash.Hash
}

// again is a block of a volume, for whoever names it and whoever adds it up.
type again struct {
	of    *readAgain
	at    int64
	data  []byte
	users atomic.Int32
}

func (c *catchingUp) close() {
	for _, v := range c.volumes {
		v.file.Close() // it was only read
	}
}

func (c *catchingUp) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	spare := make(chan []byte, catchUpBlocks)
	for range catchUpBlocks {
		spare <- make([]byte, c.block)
	}
	toName, toAdd := make(chan *again, catchUpBlocks), make(chan *again, catchUpBlocks)
	each := func(blocks chan *again, fn func(*again) error) {
		g.Go(func() error {
			for b := range blocks {
				if err := fn(b); err != nil {
					return err
				}
				if b.users.Add(-1) == 0 {
					spare <- b.data[:c.block]
				}
			}
			return nil
		})
	}
	each(toName, func(b *again) error {
		_, err := b.of.digest.Write(b.data)
		return err
	})
	each(toAdd, c.add)
	g.Go(func() error {
		defer close(toName)
		defer close(toAdd)
		return c.read(ctx, spare, func(b *again) {
			toName <- b // never more than there are blocks
			toAdd <- b
		})
	})
	if err := g.Wait(); err != nil {
		return err
	}
	if c.step.n > 0 {
		return c.step.store()
	}
	return nil
}

// read hands out the blocks, position by position.
func (c *catchingUp) read(ctx context.Context, spare chan []byte, fn func(*again)) error {
	done := int64(0)
	for at := int64(0); at < c.longest; at += int64(c.block) {
		for i := range c.volumes {
			v := &c.volumes[i]
			if at >= v.Size {
				continue
			}
			var buf []byte
			select {
			case buf = <-spare:
			case <-ctx.Done():
				return ctx.Err()
			}
			buf = buf[:min(int64(c.block), v.Size-at)]
			if _, err := v.file.ReadAt(buf, at); errors.Is(err, io.EOF) {
				return fmt.Errorf("%w: %s: it has become shorter", ErrParityLost, v.Where)
			} else if err != nil {
				return err
			}
			// Only advice: it has been read for the last time.
			_ = unix.Fadvise(int(v.file.Fd()), at, int64(len(buf)), unix.FADV_DONTNEED)
			b := &again{of: v, at: at, data: buf}
			b.users.Store(2)
			fn(b)
			done += int64(len(buf))
			c.progress(done)
		}
	}
	return nil
}

// add adds a block to the sums.
func (c *catchingUp) add(b *again) error {
	if s := c.step; s.n == 0 || b.at != s.at {
		if s.n > 0 {
			if err := s.store(); err != nil {
				return err
			}
		}
		if err := s.load(int(min(int64(c.block), c.longest-b.at))); err != nil {
			return err
		}
	}
	return c.step.add(b.of.Number, b.data)
}

// openParity makes ready for parity volumes, if the set is to have any.
func (w *setWriter) openParity() error {
	if w.state.parityVolumes == 0 {
		return nil
	}
	name := fmt.Sprintf("%s-%x", w.set.Name, w.set.ID[:4]) // another store may have a set of that name
	s, err := newSums(w.o.ParityDir, name, w.state.parityVolumes)
	if err != nil {
		return err
	}
	kept := ""
	if !w.o.ChangeAlways {
		kept = w.target.Keeps()
	}
	w.parity = newParityMaker(s, kept)
	if w.o.VolumeSize > 0 {
		covered := w.largestCovered(w.o.VolumeSize)
		if covered <= 0 {
			return fmt.Errorf("%w: %d bytes are too few for a parity volume", ErrVolumeSize, w.o.VolumeSize)
		}
		w.o.VolumeSize = covered
	}
	return w.checkSums()
}

// largestCovered is how long volumes may be so that a parity volume has at most so many bytes.
func (w *setWriter) largestCovered(size int64) int64 {
	label, _ := volume.EncodeLabel(w.parityLabel(volume.ID{1}, 1, 0, 0))
	return volume.LargestCovered(size, len(label)+volume.SetData*64, w.state.parity)
}

// checkSums finds out, before anything is written, whether the sums are there that an interrupted run left, or the volumes to make them of.
func (w *setWriter) checkSums() error {
	data := uint32(w.dataVolumes())
	// Sums over a volume that the catalogue does not have are of no use.
	if err := w.parity.remove(func(n sumName) bool { return n.number > data }); err != nil {
		return err
	}
	return w.groups(func(group int) error {
		missing, _, err := w.parity.behind(group, w.set.Volumes)
		for i := range missing {
			if err != nil {
				break
			}
			var f *os.File
			if f, err = openAgain(&missing[i]); err == nil {
				f.Close() // it was only looked at
			}
		}
		return err
	})
}

// groups calls fn for every group that has a volume.
func (w *setWriter) groups(fn func(group int) error) error {
	data := w.dataVolumes()
	if data == 0 {
		return nil
	}
	last, _ := groupOf(uint32(data))
	for group := range last + 1 {
		if err := fn(group); err != nil {
			return err
		}
	}
	return nil
}

// catchUp adds all complete volumes to the sums: before they go away with their medium, and when the sums are needed.
func (w *setWriter) catchUp(ctx context.Context) error {
	if w.parity == nil {
		return nil
	}
	return w.groups(func(group int) error {
		missing, last, err := w.parity.behind(group, w.set.Volumes)
		if err != nil || len(missing) == 0 {
			return err
		}
		total := int64(0)
		for _, v := range missing {
			total += v.Size
		}
		return w.parity.catchUp(ctx, missing, last, func(done int64) {
			w.o.progress(Progress{Phase: PhaseSums, Done: done, Total: total})
		})
	})
}

// keepCached reports whether the next volume is left in the page cache because it will be read again.
func (w *setWriter) keepCached() bool {
	return w.parity != nil && w.parity.again && w.sealed < w.parity.cached
}

func (w *setWriter) closeParity() error {
	if w.parity != nil {
		w.parity.close()
	}
	return nil
}

// finishParity removes the sums when the set is finished.
func (w *setWriter) finishParity() error {
	if w.parity == nil {
		return nil
	}
	return w.parity.remove(func(sumName) bool { return true })
}
