package store

import (
	"cmp"
	"crypto/cipher"
	"errors"
	"fmt"
	"maps"
	"slices"

	"snapfs/store/volume"
)

// found is what a look into volumes brings to light: blobs go straight into a batch of the index, facts are kept
// until all journals are read.
type found struct {
	facts    []*Fact
	ids      []ID
	journals []*volumeState // their watermarks move with the fold
}

// syncIndex brings an index up to date with the volumes on disk: unknown and longer ones are read from their watermark
// on, missing ones are noted. With all, every volume is read from its beginning. Journals come first: a volume that a fact has
// dropped, and that a crash kept from being removed, must not come between the index and what replaced it.
func (e *engine) syncIndex(x *index, cat *catalogue, f *fold, all bool, progress func(RebuildProgress)) error {
	disk, err := onDisk(volumesDir(e.dir))
	if err != nil {
		return err
	}
	todo := e.compare(cat, disk, all)
	if len(todo) > 0 && !all { // a new index counts only when all of it is on stable storage
		if err := x.give(cat.next); err != nil {
			return fmt.Errorf("index: %w", err)
		}
	}
	journals, others := e.sortByAge(todo, all)
	p := indexProgress{tell: progress, fresh: all}
	p.VolumesTotal = len(todo)
	var news found
	for _, v := range journals {
		if err := p.index(e, x, v, &news); err != nil {
			return err
		}
	}
	if err := e.foldNew(x, f, news); err != nil {
		return err
	}
	for id := range f.dropped {
		if v := cat.byID[id]; v != nil {
			v.dropped = true
		}
	}
	news = found{}
	for _, v := range others {
		if v.dropped {
			continue
		}
		if err := p.index(e, x, v, &news); err != nil {
			return err
		}
	}
	if err := e.foldNew(x, f, news); err != nil { // nothing but in volumes that are not what their labels say
		return err
	}
	return e.foldLate(x, cat, f)
}

// indexProgress tells how far the reading of volumes is.
type indexProgress struct {
	RebuildProgress
	tell  func(RebuildProgress)
	fresh bool // a new index, which grows until it is as large as the one before
}

func (p *indexProgress) index(e *engine, x *index, v *volumeState, news *found) error {
	if p.fresh && !x.inMemory() {
		if err := e.enoughForIndex(true); err != nil {
			return err
		}
	}
	before := v.blobs
	if err := e.indexVolume(x, v, news); err != nil {
		return err
	}
	p.Volumes++
	p.Blobs += v.blobs - before
	p.Bytes += v.size
	if p.tell != nil {
		p.tell(p.RebuildProgress)
	}
	return nil
}

// compare enters what is on disk into the catalogue and returns the volumes that must be read.
func (e *engine) compare(cat *catalogue, disk map[volume.ID]int64, all bool) []*volumeState {
	for id, v := range cat.byID {
		size, ok := disk[id]
		v.missing, v.size = !ok, size
		if ok && size < v.indexed {
			e.log.Warn("volume is shorter than it was", "volume", id, "size", size, "indexed", v.indexed)
		}
	}
	var todo []*volumeState
	for _, id := range slices.SortedFunc(maps.Keys(disk), func(a, b volume.ID) int { return compareBytes(a[:], b[:]) }) {
		v := cat.byID[id]
		if v == nil {
			v = cat.add(id, 0)
			v.size = disk[id]
		}
		if v.dropped {
			continue
		}
		if all {
			v.indexed, v.seen, v.blobs, v.raw, v.parity, v.sealed = 0, 0, 0, 0, 0, false
		}
		if v.size != v.seen {
			todo = append(todo, v)
		}
	}
	return todo
}

// sortByAge puts older volumes first: of a blob that was stored again because its first place was damaged, the later
// place counts, in a rebuilt index as well. Those that hold facts, or may, are given apart. In a new index nothing says
// who left unfinished work (see sessions.go): then what no snapshot names may be some, as old as its volume.
func (e *engine) sortByAge(list []*volumeState, all bool) (journals, others []*volumeState) {
	created := make(map[volume.ID]int64, len(list))
	now := e.now().UnixNano()
	for _, v := range list {
		label, err := labelOf(volumePath(e.dir, v.id), v.size)
		if err == nil { // else: as old as can be
			created[v.id] = label.Created.UnixNano()
		}
		switch old := e.volumeBefore(v.id); {
		case old != nil:
			v.unfinished = old.unfinished
		case all && err == nil:
			v.unfinished = min(created[v.id], now)
		case all:
			v.unfinished = now
		}
		if err != nil || label.Kind == volume.Journal {
			journals = append(journals, v)
		} else {
			others = append(others, v)
		}
	}
	byAge := func(a, b *volumeState) int { return cmp.Compare(created[a.id], created[b.id]) }
	slices.SortStableFunc(journals, byAge)
	slices.SortStableFunc(others, byAge)
	return journals, others
}

// volumeBefore is what a running holder knew of a volume before its index is made anew.
func (e *engine) volumeBefore(id volume.ID) *volumeState {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.volumes == nil {
		return nil
	}
	return e.volumes.byID[id]
}

// indexVolume reads what is new in a volume into the index. Damage is logged and passed over: the blobs hit are
// missing from the index then, and whoever asks for them is told so.
func (e *engine) indexVolume(x *index, v *volumeState, news *found) error {
	file, err := e.files.Open(volumePath(e.dir, v.id))
	if err != nil {
		return fmt.Errorf("volume %s: %w", v.id, err)
	}
	defer file.Close()
	if err := e.readLabel(file, v); err != nil {
		if errors.Is(err, errForeign) || errors.Is(err, volume.ErrNewerVersion) {
			e.log.Warn("volume is ignored", "volume", v.id, "err", err)
			return nil
		}
		e.log.Warn("volume has a damaged label", "volume", v.id, "err", err)
	}
	aead, err := e.bundle.VolumeAEAD(v.id)
	if err != nil {
		return err
	}
	in := &volumeIndexer{e: e, x: x, v: v, file: file, aead: aead, news: news, batch: x.newBatch(), leaving: e.leaving()}
	defer func() { in.batch.cancel() }()
	if err := in.run(); err != nil {
		return fmt.Errorf("volume %s: %w", v.id, err)
	}
	return nil
}

// errForeign: a volume of another store lies in the directory, or one under the name of another.
var errForeign = errors.New("is not what its name says")

func (e *engine) readLabel(file volume.File, v *volumeState) error {
	label, err := readLabel(file, v.size)
	if err != nil {
		return err
	}
	if label.Store != e.storeID {
		return fmt.Errorf("%w: it belongs to store %x", errForeign, label.Store)
	}
	if label.Volume != v.id {
		return fmt.Errorf("%w: it is volume %s under another name", errForeign, label.Volume)
	}
	v.kind = label.Kind
	return nil
}

// readLabel reads a volume's label, from its end if the beginning is damaged.
func readLabel(file volume.File, size int64) (volume.Label, error) {
	label, _, err := volume.ReadLabel(file, size)
	if err == nil || errors.Is(err, volume.ErrNewerVersion) {
		return label, err
	}
	if trailer, trailerErr := volume.ReadTrailer(file, size); trailerErr == nil {
		if again, againErr := volume.ReadLabelAgain(file, trailer); againErr == nil {
			return again, nil
		}
	}
	return label, err
}

// volumeIndexer reads one volume into the index.
type volumeIndexer struct {
	e     *engine
	x     *index
	v     *volumeState
	file  volume.File
	aead  cipher.AEAD
	news  *found
	batch *batch

	leaving map[uint32]*volumeState // by number
}

// run makes sure first that what it reads is on stable storage: a holder may have been killed before it was, even of a volume with a
// trailer, and facts will say that it is there.
func (in *volumeIndexer) run() error {
	if err := in.file.Sync(); err != nil && !in.e.frozen {
		return err
	}
	if in.v.indexed == 0 {
		in.v.harmed = 0
		if err := in.x.forgetMoved(in.v.id); err != nil { // what was copied elsewhere is found here again
			return fmt.Errorf("index: %w", err)
		}
	}
	sealed, err := in.fromContents()
	if err != nil {
		in.e.log.Warn("contents table is damaged, reading the whole volume", "volume", in.v.id, "err", err)
		in.v.indexed, in.v.blobs, in.v.raw, in.v.parity = 0, 0, 0, 0
	}
	end := in.v.size
	if !sealed {
		if end, err = in.fromFrames(); err != nil {
			return err
		}
	}
	if err := in.batch.finish(); err != nil {
		return fmt.Errorf("index: %w", err)
	}
	in.v.indexed, in.v.seen, in.v.sealed = end, in.v.size, sealed
	if in.v.kind == volume.Journal {
		in.news.journals = append(in.news.journals, in.v)
		return nil
	}
	return in.x.write(func(set func(key, value []byte) error, _ func([]byte) error) error {
		return set(volumeKey(in.v.id), in.v.encode())
	})
}

// fromContents reads a sealed volume's table; sealed is false if there is none.
func (in *volumeIndexer) fromContents() (sealed bool, err error) {
	trailer, err := volume.ReadTrailer(in.file, in.v.size)
	if errors.Is(err, volume.ErrTorn) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if trailer.Volume != in.v.id {
		return false, fmt.Errorf("trailer of volume %s", trailer.Volume)
	}
	from := in.v.indexed
	in.v.parity = 0
	err = volume.ReadContents(in.file, trailer, in.aead, func(f volume.FrameInfo) error {
		if f.Kind == volume.FrameParity {
			in.v.parity += int64(f.Stored)
		}
		switch {
		case f.Offset < from:
			return nil
		case f.Kind == volume.FrameBlobs:
			return in.addBlobs(f.Offset, f.Stored, f.Blobs)
		case f.Kind == volume.FrameFacts:
			stored := make([]byte, f.Stored)
			if _, err := in.file.ReadAt(stored, f.Offset); err != nil {
				return err
			}
			return in.addFacts(f.Offset, stored)
		}
		return nil
	})
	if err == nil {
		err = in.lastParity(trailer)
	}
	return err == nil, err
}

// lastParity counts the parity behind the contents table, which does not list it.
func (in *volumeIndexer) lastParity(t volume.Trailer) error {
	_, _, err := volume.Scan(in.file, t.Contents, t.Size, in.v.id, func(_ int64, h volume.Header) error {
		if h.Kind == volume.FrameParity {
			in.v.parity += int64(h.Stored())
		}
		return nil
	})
	return err
}

// fromFrames reads an unsealed volume frame by frame.
func (in *volumeIndexer) fromFrames() (end int64, err error) {
	end, gaps, err := volume.ScanPayloads(in.file, in.v.indexed, in.v.size, in.v.id,
		func(offset int64, h volume.Header, stored []byte, damage error) error {
			if damage != nil {
				in.harmed(offset)
				in.e.log.Warn("frame is damaged", "volume", in.v.id, "offset", offset, "err", damage)
				return nil
			}
			return in.addFrame(offset, h, stored)
		})
	for _, g := range gaps {
		in.harmed(g.Offset)
		in.e.log.Warn("bytes are damaged", "volume", in.v.id, "offset", g.Offset, "length", g.Length, "frames", g.Missing)
	}
	return end, err
}

// harmed notes where the volume holds less than it should: such a volume is never removed by anybody but who repairs it.
func (in *volumeIndexer) harmed(offset int64) {
	if in.v.harmed == 0 || offset+1 < in.v.harmed {
		in.v.harmed = offset + 1
	}
}

func (in *volumeIndexer) addFrame(offset int64, h volume.Header, stored []byte) error {
	switch h.Kind {
	case volume.FrameFacts:
		return in.addFacts(offset, stored)
	case volume.FrameBlobs:
		pack, err := in.open(stored)
		if err != nil {
			in.harmed(offset)
			in.e.log.Warn("frame is damaged", "volume", in.v.id, "offset", offset, "err", err)
			return nil
		}
		return in.addBlobs(offset, h.Stored(), pack.Blobs)
	case volume.FrameParity:
		in.v.parity += int64(h.Stored())
	}
	return nil
}

func (in *volumeIndexer) open(stored []byte) (volume.Pack, error) {
	_, plain, err := volume.OpenFrame(stored, in.v.id, in.aead)
	if err != nil {
		return volume.Pack{}, err
	}
	return volume.ParsePack(plain)
}

func (in *volumeIndexer) addBlobs(offset int64, stored uint32, blobs []volume.Blob) error {
	if in.v.kind == 0 && len(blobs) > 0 { // the label is damaged
		in.v.kind = volume.Data
		if classOf(Kind(blobs[0].Kind)) == ClassMetadata {
			in.v.kind = volume.Metadata
		}
	}
	damaged := in.e.isDamaged(in.v.id, offset)
	start := uint32(0)
	for _, b := range blobs {
		p := shortPlace{in.v.number, offset, stored, start, b.Length, uint32(in.v.blobs)}
		if err := in.addBlob(b.ID, p, damaged); err != nil {
			return fmt.Errorf("index: %w", err)
		}
		start += b.Length
		in.v.blobs++
		in.v.raw += int64(b.Length)
	}
	return nil
}

// addBlob enters a blob. Another copy of it is better than one in a damaged frame, and one that is about to be moved stays the one that
// counts: whoever pins it pins what becomes of it.
func (in *volumeIndexer) addBlob(id ID, p shortPlace, damaged bool) error {
	if damaged || len(in.leaving) > 0 {
		before, err := in.x.get(blobKey(id))
		if err != nil || damaged && before != nil {
			return err
		}
		if place, err := parseShortPlace(before); err == nil && in.e.leaves(in.leaving[place.volume], place) {
			return nil
		}
	}
	return in.batch.set(blobKey(id), p.encode())
}

// leaving lists the volumes that are about to be removed, by number.
func (e *engine) leaving() map[uint32]*volumeState {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.volumes == nil {
		return nil
	}
	list := map[uint32]*volumeState{}
	for _, v := range e.volumes.byID {
		if v.leaving != nil {
			list[v.number] = v
		}
	}
	return list
}

// leaves reports whether a blob is about to be moved from its place; v may be nil.
func (e *engine) leaves(v *volumeState, p shortPlace) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return v != nil && v.leaving.has(p.ordinal)
}

// addFacts keeps a frame's facts for folding; damage is logged.
func (in *volumeIndexer) addFacts(offset int64, stored []byte) error {
	in.v.kind = volume.Journal // also when the label is damaged
	pack, err := in.open(stored)
	if err == nil {
		err = in.news.add(pack, in.e.idKeys)
	}
	if errors.Is(err, ErrNewerFormat) {
		return err
	}
	if err != nil {
		in.e.log.Warn("facts are damaged", "volume", in.v.id, "offset", offset, "err", err)
	}
	return nil
}

// errFactID: a fact's bytes do not have the ID that the chain names it by.
var errFactID = errors.New("fact is not what its ID says")

func (n *found) add(pack volume.Pack, keys idKeys) error {
	raw, err := pack.Body(nil)
	if err != nil {
		return err
	}
	for _, b := range pack.Blobs {
		if keys.id(KindFact, raw[:b.Length]) != b.ID {
			return errFactID
		}
		fact, err := parseFact(raw[:b.Length])
		if err != nil {
			return err
		}
		n.facts, n.ids = append(n.facts, fact), append(n.ids, b.ID)
		raw = raw[b.Length:]
	}
	return nil
}

// damagedBy says which of a commit's volumes are missing or shorter than it needs; "" if none. Needs mu.
func (e *engine) damagedBy(list []sealedVolume) string {
	for _, need := range list {
		if _, dropped := e.fold.dropped[need.id]; dropped {
			continue
		}
		v := e.volumes.byID[need.id]
		switch {
		case v == nil || v.missing:
			return fmt.Sprintf("volume %s is missing", need.id)
		case v.size < need.length:
			return fmt.Sprintf("volume %s is cut short: %d of %d bytes", need.id, v.size, need.length)
		}
	}
	return ""
}
