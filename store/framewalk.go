package store

import (
	"crypto/cipher"

	"snapfs/store/volume"
)

// eachFrame calls fn for the whole frames of blobs in a volume: by its contents table as far as that can be read, by scanning from
// there on. A *CorruptError tells of a blob that is to be copied from a frame which a scan does not find whole.
func (e *engine) eachFrame(file volume.File, v *volumeState, aead cipher.AEAD, fn func(volume.FrameInfo) error) error {
	w := &frameWalk{v: v, fn: fn, seen: map[int64]bool{}}
	if trailer, err := volume.ReadTrailer(file, v.size); err == nil && trailer.Volume == v.id {
		err := volume.ReadContents(file, trailer, aead, w.frame)
		if err == nil || w.own != nil {
			return err
		}
		e.log.Info("contents table is damaged, reading the frames", "volume", v.id, "err", err)
	}
	whole, err := w.scan(file, max(w.end, e.movedUpTo(v)), aead)
	if err != nil || whole {
		return err
	}
	return e.notSeen(w)
}

// frameWalk is one eachFrame.
type frameWalk struct {
	v    *volumeState
	fn   func(volume.FrameInfo) error
	seen map[int64]bool // offsets of frames of blobs
	end  int64          // of the last frame
	own  error          // of fn
}

func (w *frameWalk) frame(f volume.FrameInfo) error {
	w.end = f.Offset + int64(f.Stored)
	if f.Kind == volume.FrameBlobs {
		w.seen[f.Offset] = true
		w.own = w.fn(f)
	}
	return w.own
}

// scan goes on where no table says what there is; whole is false if something may be lost.
func (w *frameWalk) scan(file volume.File, from int64, aead cipher.AEAD) (whole bool, err error) {
	whole = true
	end, gaps, err := volume.ScanPayloads(file, from, w.v.size, w.v.id, func(offset int64, h volume.Header, stored []byte, damage error) error {
		f := volume.FrameInfo{Offset: offset, Stored: h.Stored(), Kind: h.Kind}
		if h.Kind == volume.FrameBlobs && damage == nil {
			var plain []byte
			var pack volume.Pack
			if _, plain, damage = volume.OpenFrame(stored, w.v.id, aead); damage == nil {
				pack, damage = volume.ParsePack(plain)
			}
			f.Blobs = pack.Blobs
		}
		if damage != nil {
			whole = false
			return nil
		}
		return w.frame(f)
	})
	return whole && len(gaps) == 0 && end >= w.v.indexed, err
}

// notSeen looks whether the index leads to a blob that is to be copied, in a frame that was not met.
func (e *engine) notSeen(w *frameWalk) error {
	var lost *CorruptError
	err := e.eachPlace(func(id ID, p shortPlace) error {
		if p.volume == w.v.number && !w.seen[p.offset] && w.v.leaving.has(p.ordinal) && (lost == nil || p.offset < lost.Offset) {
			lost = &CorruptError{Volume: w.v.id, Offset: p.offset, ID: id, Err: volume.ErrChecksum}
		}
		return nil
	})
	if err != nil || lost == nil {
		return err
	}
	return lost
}
