package store

import (
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"math"
	"slices"

	"snapfs/store/volume"
)

// mover copies the blobs of volumes that are about to leave into new volumes of the same kind. A frame that is wanted whole
// moves compressed as it is and is sealed again; what is left of others is packed anew. After each group of volumes the
// copies are synced, the index leads to them, a fact says so, and only then the old volumes are removed: killed anywhere, the
// next prune finds blobs twice at worst. Not safe for concurrent use.
type mover struct {
	e      *engine
	s      *localSession
	kind   volume.Kind
	packer *volume.Packer

	to     *openVolume // nil: none begun
	led    bool        // the index may lead there
	moved  []movedBlob // in to, the index does not lead there yet
	filled []sealedVolume

	pack   smallBlobs
	origin []movedBlob // of the blobs in pack
	plain  []byte
	stored []byte
	body   []byte
	group  []*volumeState // copied whole, not yet removed
	copied int64          // bytes read for the group

	unknown bool // what the index does not know anywhere else is copied as well

	part  int64 // copied at most, then the rest is left for another time; 0: everything
	spent int64 // of that
	fresh int64 // of that, since the last sync

	grown   int64 // bytes of all new volumes
	damaged []*CorruptError
	done    func(*volumeState) // told of each volume that was removed
}

// movedBlob is a blob on its way from one volume to another.
type movedBlob struct {
	from *volumeState
	old  uint32 // ordinal there; unknownOrdinal if the index does not lead there
	new  uint32 // and in the new volume
}

// unknownOrdinal is no blob's.
const unknownOrdinal = math.MaxUint32

const (
	// moveWhole is the raw size from which a frame that is wanted whole is left as it is. Smaller ones are packed together.
	moveWhole = packTarget / 4
	// moveGroup is how many bytes are copied before the volumes they came from are removed.
	moveGroup = 16 << 20
	// moveBatch is how many blobs may wait for the index.
	moveBatch = 32 << 10
)

func (e *engine) newMover(s *localSession, kind volume.Kind) (*mover, error) {
	level, err := e.config.Compression.level()
	return &mover{e: e, s: s, kind: kind, packer: volume.NewPacker(level), done: func(*volumeState) {}}, err
}

// move copies what a volume's leaving says and removes it, soon. A volume with damaged frames among the wanted ones stays.
func (m *mover) move(ctx context.Context, v *volumeState) error {
	dead, err := m.copyFrames(ctx, v)
	var enough *enoughError
	if errors.As(err, &enough) {
		return m.leaveRest(v, enough.offset)
	}
	var damage *CorruptError
	if errors.As(err, &damage) {
		m.damaged = append(m.damaged, damage)
		if err := m.e.noteDamage(ctx, []DamagedFrame{{damage.Volume, damage.Offset, damage.ID}}); err != nil && ctx.Err() == nil {
			m.e.log.Warn("damage not recorded", "volume", v.id, "err", err)
		}
		m.unpack(v)
		if err := m.settle(); err != nil { // while it is known to leave
			return err
		}
		m.e.stay(v)
		return nil
	}
	if err != nil {
		return err
	}
	if err := m.e.unindexVolume(dead, v); err != nil {
		return err
	}
	m.group = append(m.group, v)
	m.copied += v.size
	if m.copied >= moveGroup || m.to != nil && m.to.w.Size() >= m.e.limit {
		return m.finishGroup(ctx)
	}
	return nil
}

// enoughError ends the copying of a volume before a frame.
type enoughError struct{ offset int64 }

func (*enoughError) Error() string { return "enough has been copied for now" }

// leaveRest makes what has been copied of a volume count, and leaves what lies behind where it is.
func (m *mover) leaveRest(v *volumeState, offset int64) error {
	err := m.flushPack()
	if err == nil {
		err = m.settle()
	}
	m.e.stay(v)
	if err != nil {
		return err
	}
	if err := m.e.noteMoved(v, offset); err != nil {
		m.e.log.Warn("index not brought up to date", "volume", v.id, "err", err)
	}
	return nil
}

// enough reports whether the rest is to be left for another time.
func (m *mover) enough(ctx context.Context) bool {
	return m.part > 0 && (m.spent >= m.part || ctx.Err() != nil)
}

// unpack takes the blobs of a volume out of what waits to be packed; they came last.
func (m *mover) unpack(v *volumeState) {
	for n := len(m.origin); n > 0 && m.origin[n-1].from == v; n = len(m.origin) {
		length := int(m.pack.blobs[n-1].Length)
		m.origin, m.pack.blobs = m.origin[:n-1], m.pack.blobs[:n-1]
		m.pack.raw = m.pack.raw[:len(m.pack.raw)-length]
	}
}

// stay takes back that a volume is about to leave.
func (e *engine) stay(v *volumeState) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v.leaving = nil
	e.moves++
}

// copyFrames copies the wanted blobs of a volume and returns those that the index still knows there and nobody wants.
func (m *mover) copyFrames(ctx context.Context, v *volumeState) (dead []ID, err error) {
	aead, err := m.e.bundle.VolumeAEAD(v.id)
	if err != nil {
		return nil, err
	}
	file, err := m.e.files.Open(volumePath(m.e.dir, v.id))
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", v.id, err)
	}
	defer file.Close()
	err = m.e.eachFrame(file, v, aead, func(f volume.FrameInfo) error {
		if m.enough(ctx) {
			return &enoughError{f.Offset}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		rows, unwanted, err := m.e.wantedRows(v, f, m.unknown)
		if dead = append(dead, unwanted...); err == nil && len(dead) >= moveBatch {
			err = m.e.unindexVolume(dead, v)
			dead = dead[:0]
		}
		if err != nil || len(rows) == 0 {
			return err
		}
		return m.copyFrame(file, v, aead, f, rows)
	})
	return dead, err
}

// wantedRow is a blob of a frame that is to be copied.
type wantedRow struct {
	row     int
	start   uint32
	ordinal uint32
}

// wantedRows says which blobs of a frame are to be copied, and which the index leads to without anybody wanting them. What the
// index knows elsewhere needs neither; with unknown, what it does not know where it can be read is copied.
func (e *engine) wantedRows(v *volumeState, f volume.FrameInfo, unknown bool) (rows []wantedRow, dead []ID, err error) {
	ids := make([]ID, len(f.Blobs))
	for i, b := range f.Blobs {
		ids[i] = b.ID
	}
	places, err := e.indexedAll(ids)
	if err != nil {
		return nil, nil, err
	}
	start := uint32(0)
	for i, b := range f.Blobs {
		p := places[i]
		here := p.stored != 0 && p.volume == v.number && p.offset == f.Offset && p.start == start
		switch {
		case here && v.leaving.has(p.ordinal):
			rows = append(rows, wantedRow{i, start, p.ordinal})
		case here:
			dead = append(dead, b.ID)
		case unknown && !e.readable(p) && e.readable(shortPlace{volume: v.number, offset: f.Offset, stored: f.Stored}):
			rows = append(rows, wantedRow{i, start, unknownOrdinal})
		}
		start += b.Length
	}
	return rows, dead, nil
}

// whole reports whether a frame moves as it is.
func whole(f volume.FrameInfo, rows []wantedRow) bool {
	raw := uint32(0)
	for _, b := range f.Blobs {
		raw += b.Length
	}
	return len(rows) == len(f.Blobs) && raw >= moveWhole
}

// copyFrame moves one frame, or some of its blobs.
func (m *mover) copyFrame(file volume.File, v *volumeState, aead cipher.AEAD, f volume.FrameInfo, rows []wantedRow) error {
	damaged := func(err error) error {
		return &CorruptError{Volume: v.id, Offset: f.Offset, ID: f.Blobs[rows[0].row].ID, Err: err}
	}
	if cap(m.stored) < int(f.Stored) {
		m.stored = make([]byte, f.Stored)
	}
	stored := m.stored[:f.Stored]
	if _, err := file.ReadAt(stored, f.Offset); err != nil {
		return damaged(err)
	}
	_, plain, err := volume.OpenFrame(stored, v.id, aead)
	if err != nil {
		return damaged(err)
	}
	if whole(f, rows) {
		if err := m.flushLarge(); err != nil {
			return err
		}
		origin := make([]movedBlob, len(rows))
		for i, r := range rows {
			origin[i] = movedBlob{from: v, old: r.ordinal}
		}
		return m.append(plain, f.Blobs, origin)
	}
	pack, err := volume.ParsePack(plain)
	if err != nil {
		return damaged(err)
	}
	body, err := pack.Body(m.body[:0])
	if err != nil {
		return damaged(err)
	}
	if pack.Codec != volume.CodecNone {
		m.body = body
	}
	return m.repack(v, f, rows, body)
}

// repack takes some blobs out of a frame's body.
func (m *mover) repack(v *volumeState, f volume.FrameInfo, rows []wantedRow, body []byte) error {
	for _, r := range rows {
		b := f.Blobs[r.row]
		data := body[r.start : r.start+b.Length]
		if b.Length >= aloneLimit {
			m.plain = m.packer.Pack(m.plain[:0], []volume.Blob{b}, data)
			if err := m.append(m.plain, []volume.Blob{b}, []movedBlob{{from: v, old: r.ordinal}}); err != nil {
				return err
			}
			continue
		}
		m.pack.raw = append(m.pack.raw, data...)
		m.pack.blobs = append(m.pack.blobs, b)
		m.origin = append(m.origin, movedBlob{from: v, old: r.ordinal})
		if len(m.pack.raw) >= packTarget {
			if err := m.flushPack(); err != nil {
				return err
			}
		}
	}
	return nil
}

// flushLarge writes what waits to be packed if it is worth a frame: so blobs keep about the order they had.
func (m *mover) flushLarge() error {
	if len(m.pack.raw) < packTarget/2 {
		return nil
	}
	return m.flushPack()
}

// flushPack writes what waits to be packed.
func (m *mover) flushPack() error {
	if len(m.pack.blobs) == 0 {
		return nil
	}
	m.plain = m.packer.Pack(m.plain[:0], m.pack.blobs, m.pack.raw)
	err := m.append(m.plain, m.pack.blobs, m.origin)
	m.pack.raw, m.pack.blobs, m.origin = m.pack.raw[:0], m.pack.blobs[:0], m.origin[:0]
	return err
}

// append writes a frame to the new volume.
func (m *mover) append(plain []byte, blobs []volume.Blob, origin []movedBlob) error {
	if err := m.target(); err != nil {
		return err
	}
	var ordinal uint32
	_, _, err := m.to.append(nil, volume.FrameBlobs, plain, func(offset int64, stored uint32) {
		ordinal = m.to.enqueue(offset, stored, blobs)
	}, blobs)
	if err != nil {
		return fmt.Errorf("%w: volume %s: %w", ErrWriteFailed, m.to.id, diskFull(err))
	}
	for i, o := range origin {
		o.new = ordinal + uint32(i)
		m.moved = append(m.moved, o)
	}
	m.spent += int64(len(plain))
	m.fresh += int64(len(plain))
	if len(m.moved) >= moveBatch || m.part > 0 && m.fresh >= moveGroup { // so that the last sync does not take long
		return m.settle()
	}
	return nil
}

// target begins a new volume when there is none, or the last is full.
func (m *mover) target() error {
	if m.to != nil && m.to.w.Size() < m.e.limit {
		return nil
	}
	if m.to != nil {
		if err := m.seal(); err != nil {
			return err
		}
	}
	e := m.e
	v, err := e.createVolume(m.kind)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrWriteFailed, diskFull(err))
	}
	m.to, m.led = v, false
	return nil
}

// settle syncs the copies and makes the index lead to them.
func (m *mover) settle() error {
	if len(m.moved) == 0 {
		return nil
	}
	e := m.e
	e.flushMu.Lock()
	defer e.flushMu.Unlock()
	queue, end := m.to.cut(false)
	if err := m.to.w.Sync(); err != nil {
		return fmt.Errorf("%w: volume %s: %w", ErrWriteFailed, m.to.id, diskFull(err))
	}
	e.mu.Lock()
	m.to.size = end
	e.mu.Unlock()
	m.led = true
	if err := e.indexQueue(m.to, queue, end, false); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, b := range m.moved {
		m.to.unfinished = max(m.to.unfinished, b.from.unfinished)
		b.from.leaving.remove(b.old) // whoever looked the old place up before now does not get it any more
	}
	e.everyPins(func(p *pins) {
		for _, b := range m.moved {
			p.moved(b.from, m.to.volumeState, b.old, b.new)
		}
	})
	m.moved, m.fresh = m.moved[:0], 0
	return nil
}

// finishGroup removes the volumes that were copied.
func (m *mover) finishGroup(ctx context.Context) error {
	err := m.flushPack()
	if err == nil {
		err = m.settle()
	}
	if err != nil || len(m.group) == 0 {
		return err
	}
	m.e.notePinsOfAll()
	by, err := m.successors()
	if err != nil {
		return err
	}
	if err := m.e.drop(ctx, m.s, m.group, by); err != nil {
		return err
	}
	for _, v := range m.group {
		m.done(v)
	}
	m.group, m.copied, m.filled = nil, 0, nil
	return nil
}

// successors are the volumes that hold what those of the group held. If one of these is guarded, so are they.
func (m *mover) successors() ([]sealedVolume, error) {
	var old, fresh []volume.ID
	for _, v := range m.group {
		old = append(old, v.id)
	}
	if slices.ContainsFunc(old, m.e.isGuarded) {
		if err := m.seal(); err != nil { // only a volume that is not written any more can be guarded
			return nil, err
		}
	}
	by := m.filled
	for _, v := range by {
		fresh = append(fresh, v.id)
	}
	if m.to != nil {
		by = append(by, sealedVolume{m.to.id, m.kind, m.to.w.Synced()})
	}
	return by, m.e.inheritGuard(old, fresh)
}

// seal ends the new volume.
func (m *mover) seal() error {
	if m.to == nil {
		return nil
	}
	if err := m.settle(); err != nil {
		return err
	}
	e, v := m.e, m.to
	e.flushMu.Lock()
	defer e.flushMu.Unlock()
	v.cut(true)
	e.sealVolume(v)
	err := e.indexQueue(v, nil, v.w.Synced(), true)
	m.filled = append(m.filled, sealedVolume{v.id, v.kind, v.w.Synced()})
	m.grown += v.w.Synced()
	m.to = nil
	e.released(v)
	return errors.Join(err, v.w.Close())
}

// close ends the work after the last volume or an error: what the index leads to already is sealed, a volume it does not lead
// to is removed again.
func (m *mover) close(ctx context.Context, err error) error {
	if err == nil {
		err = m.finishGroup(ctx)
	}
	if err == nil {
		return m.seal()
	}
	for _, v := range m.group {
		m.e.stay(v)
	}
	return errors.Join(err, m.abandon())
}

// abandon leaves the new volume as far as the index leads to it.
func (m *mover) abandon() error {
	v, e := m.to, m.e
	if v == nil {
		return nil
	}
	m.to, m.moved = nil, nil
	e.mu.Lock()
	used, end := m.led, v.indexed
	e.mu.Unlock()
	if used && v.w.Err() == nil {
		v.cut(true)
		e.sealVolume(v)
	}
	e.mu.Lock()
	v.writer = nil
	if used {
		v.size = max(end, v.w.Synced())
		e.noteClosed(v)
	}
	e.mu.Unlock()
	m.grown += v.size
	err := v.w.Close()
	if used {
		return err
	}
	m.grown -= v.size
	e.forgetVolumes([]*volumeState{v.volumeState})
	return errors.Join(err, e.removeVolume(v.id))
}

// notePinsOfAll records for every session what became of the volumes it pins.
func (e *engine) notePinsOfAll() {
	e.mu.Lock()
	var list []*localSession
	for s := range e.sessions {
		if s.pins.fresh {
			list = append(list, s)
		}
	}
	absent := map[[16]byte]map[volume.ID]uint8{}
	for id, a := range e.absent {
		if a.pins.fresh {
			a.pins.fresh = false
			absent[id] = a.pins.unnoted(e.volumes)
			for v, bits := range absent[id] {
				a.pins.noted[v] |= bits
			}
		}
	}
	e.mu.Unlock()
	for _, s := range list {
		e.notePins(s)
	}
	for id, volumes := range absent {
		if _, err := e.writeSession(id, nil, volumes, nil); err != nil {
			e.log.Warn("session not recorded in the index", "err", err)
		}
	}
}
