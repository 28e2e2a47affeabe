package store

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"snapfs/store/volume"
)

// volumeState is what the holder knows of one volume. Guarded by engine.mu.
type volumeState struct {
	id     volume.ID
	number uint32 // short name in the index; never reused
	kind   volume.Kind

	size    int64 // as found on disk at open, or as written
	seen    int64 // size when the index last looked: equal sizes need no second look
	indexed int64 // watermark: every frame below is in the index
	blobs   int64
	raw     int64 // plaintext bytes of its blobs
	parity  int64 // bytes of its parity frames
	sealed  bool
	missing bool // named by the catalogue, not on disk
	dropped bool // by a fact: never to be used again

	writer *openVolume // from its creation until the index knows the last frame; nil: this process does not write it

	unfinished int64 // when somebody last ended without a commit who had written here, ns since 1970; 0: nobody did
	harmed     int64 // offset of the first damage met while the volume was indexed, + 1; 0: none

	leaving *bitset // blobs that are about to get another place, when the volume is about to be removed; else nil
}

// live reports whether a place in the volume can be read.
func (v *volumeState) live(p shortPlace) bool {
	return v != nil && !v.missing && !v.dropped && p.offset+int64(p.stored) <= v.size
}

// offers reports whether what is in a place may be referred to by new snapshots.
func (v *volumeState) offers(p shortPlace) bool {
	return v.live(p) && (v.leaving == nil || v.leaving.has(p.ordinal))
}

// encode is the volume's record in the index.
func (v *volumeState) encode() []byte {
	b := binary.AppendUvarint(nil, uint64(v.number))
	b = append(b, byte(v.kind), bit(v.sealed), bit(v.dropped))
	for _, n := range []int64{v.seen, v.indexed, v.blobs, v.raw, v.parity, v.unfinished, v.harmed} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return b
}

func bit(v bool) byte {
	if v {
		return 1
	}
	return 0
}

func parseVolumeState(id volume.ID, b []byte) (*volumeState, error) {
	bad := fmt.Errorf("%w: record of volume %s", errIndexBroken, id)
	number, n := binary.Uvarint(b)
	if n <= 0 || len(b) < n+3 {
		return nil, bad
	}
	v := &volumeState{id: id, number: uint32(number), kind: volume.Kind(b[n]), sealed: b[n+1] == 1, dropped: b[n+2] == 1}
	b = b[n+3:]
	for _, p := range []*int64{&v.seen, &v.indexed, &v.blobs, &v.raw, &v.parity, &v.unfinished, &v.harmed} {
		u, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, bad
		}
		*p, b = int64(u), b[n:]
	}
	return v, nil
}

// catalogue is the set of known volumes.
type catalogue struct {
	byID     map[volume.ID]*volumeState
	byNumber map[uint32]*volumeState
	next     uint32
}

func newCatalogue() *catalogue {
	return &catalogue{byID: map[volume.ID]*volumeState{}, byNumber: map[uint32]*volumeState{}, next: 1}
}

func (c *catalogue) put(v *volumeState) {
	c.byID[v.id], c.byNumber[v.number] = v, v
	c.next = max(c.next, v.number+1)
}

// add enters a new volume under the next short number.
func (c *catalogue) add(id volume.ID, kind volume.Kind) *volumeState {
	v := &volumeState{id: id, number: c.next, kind: kind}
	c.put(v)
	return v
}

// takeUnfinished takes over what was left unfinished since the volumes were read, and returns the records that change.
func (c *catalogue) takeUnfinished(before *catalogue) (records [][2][]byte) {
	for id, old := range before.byID {
		if v := c.byID[id]; v != nil && old.unfinished > v.unfinished {
			v.unfinished = old.unfinished
			records = append(records, [2][]byte{volumeKey(id), v.encode()})
		}
	}
	return records
}

// loadCatalogue reads the records of all volumes.
func loadCatalogue(x *index) (*catalogue, error) {
	c := newCatalogue()
	err := x.each([]byte{keyVolume}, func(key, value []byte) error {
		if len(key) != 1+len(volume.ID{}) {
			return errIndexBroken
		}
		v, err := parseVolumeState(volume.ID(key[1:]), value)
		if err == nil {
			c.put(v)
		}
		return err
	})
	if err == nil {
		err = c.loadNext(x)
	}
	return c, err
}

// nextVolumeKey is the key of the least short number that no volume ever had.
var nextVolumeKey = metaKey("volumes")

func (c *catalogue) loadNext(x *index) error {
	value, err := x.get(nextVolumeKey)
	if err != nil || value == nil {
		return err
	}
	next, n := binary.Uvarint(value)
	if n <= 0 {
		return fmt.Errorf("%w: number of volumes", errIndexBroken)
	}
	c.next = max(c.next, uint32(next))
	return nil
}

func encodeUvarint(v uint64) []byte { return binary.AppendUvarint(nil, v) }

// onDisk lists the volumes in a directory with their sizes. Names that are no volume IDs are ignored.
func onDisk(dir string) (map[volume.ID]int64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	found := make(map[volume.ID]int64, len(entries))
	for _, e := range entries {
		var id volume.ID
		if len(e.Name()) != 2*len(id) || !e.Type().IsRegular() {
			continue
		}
		if _, err := hex.Decode(id[:], []byte(e.Name())); err != nil {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found[id] = info.Size()
	}
	return found, nil
}

// volumePath is where a volume lies.
func volumePath(dir string, id volume.ID) string {
	return filepath.Join(dir, volumesName, id.String())
}
