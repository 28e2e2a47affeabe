package archive

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"syscall"
	"testing"

	"snapfs/snapshot"
	"snapfs/store"
	"snapfs/store/volume"
)

// setFrame is a frame of blobs or a record in a volume.
type setFrame struct {
	volume.FrameInfo
	plain []byte
}

// frames opens what lies in a volume, front to back, whatever its contents table says.
func (s *origin) frames(v store.ArchiveVolume) (list []setFrame) {
	s.t.Helper()
	f, err := os.Open(v.Where)
	must(s.t, err)
	defer f.Close()
	label, _, err := volume.ReadLabel(f, v.Size)
	must(s.t, err)
	keys, err := (&keyring{unlock: unlockTest}).open(s.t.Context(), &label)
	must(s.t, err)
	aead, err := keys.VolumeAEAD(v.ID)
	must(s.t, err)
	_, _, err = volume.ScanPayloads(f, 0, v.Size, v.ID, func(offset int64, h volume.Header, stored []byte, damage error) error {
		if h.Kind != volume.FrameBlobs && h.Kind != volume.FrameSet || damage != nil {
			return damage
		}
		_, plain, err := volume.OpenFrame(bytes.Clone(stored), v.ID, aead)
		if err != nil {
			return err
		}
		frame := setFrame{volume.FrameInfo{Offset: offset, Stored: h.Stored(), Kind: h.Kind}, plain}
		if h.Kind == volume.FrameBlobs {
			pack, err := volume.ParsePack(plain)
			if err != nil {
				return err
			}
			frame.Blobs = pack.Blobs
		}
		list = append(list, frame)
		return nil
	})
	must(s.t, err)
	return list
}

// tables are the records of a volume about the one before.
func (s *origin) tables(v store.ArchiveVolume) (list []*Table) {
	for _, f := range s.frames(v) {
		if TypeOf(f.plain) == RecordTable && f.Kind == volume.FrameSet {
			t, err := ParseTable(f.plain)
			must(s.t, err)
			list = append(list, t)
		}
	}
	return list
}

// TestTornVolumesHaveTheirTable: where a medium ended unannounced, the next volume lists exactly the frames that are on it; if the run that
// had the table has ended, how much of it counts.
func TestTornVolumesHaveTheirTable(t *testing.T) {
	s := newSource(t)
	id := s.take(randomFiles(rand.New(rand.NewPCG(2, 2)), 50))
	for _, resumed := range []bool{false, true} {
		out, writes := t.TempDir(), 0
		o := s.options(out, id)
		o.Level = LevelFull
		o.Target = func(p Permit) (Target, error) {
			d, err := NewDirectory(out, p)
			return &shortTarget{d, func(m Medium) Medium {
				return &shortMedium{Medium: m, room: 700_000, fail: syscall.ENOSPC, lies: true, written: &writes}
			}}, err
		}
		if !resumed {
			o.Change = func(context.Context, Change) error { return nil }
		}
		res, err := Create(t.Context(), s.st, o)
		for resumed && err != nil {
			state, serr := s.st.State(t.Context())
			must(t, serr)
			o.Snapshots, o.Level = nil, ""
			res, err = Resume(t.Context(), s.st, state.Archives[len(state.Archives)-1].Name, o)
		}
		must(t, err)
		if len(res.Set.Volumes) < 3 {
			t.Fatalf("%d volumes", len(res.Set.Volumes))
		}
		for i, v := range res.Set.Volumes[:len(res.Set.Volumes)-1] {
			tables := s.tables(res.Set.Volumes[i+1])
			if !v.Torn || len(tables) == 0 {
				t.Fatalf("resumed %v: volume %d, torn %v, has %d tables", resumed, v.Number, v.Torn, len(tables))
			}
			var listed, there []volume.FrameInfo
			for _, table := range tables {
				if table.Volume != v.ID || table.Number != v.Number || table.Whole != v.Size || (len(table.Part) == 0) != resumed {
					t.Fatalf("resumed %v: volume %+v has table %+v", resumed, v, table)
				}
				if resumed {
					continue
				}
				must(t, volume.ReadContentsPart(table.Part, func(f volume.FrameInfo) {
					if (f.Kind == volume.FrameBlobs || f.Kind == volume.FrameSet) && f.Offset < table.Whole {
						f.Blobs = append([]volume.Blob(nil), f.Blobs...)
						listed = append(listed, f)
					}
				}))
			}
			for _, f := range s.frames(v) {
				there = append(there, f.FrameInfo)
			}
			if !resumed && !reflect.DeepEqual(listed, there) {
				t.Errorf("volume %d: %d frames are listed, %d are there", v.Number, len(listed), len(there))
			}
		}
		if tables := s.tables(res.Set.Volumes[0]); len(tables) > 0 {
			t.Errorf("the first volume has %d tables", len(tables))
		}
	}
}

// TestNothingUnreached: a set holds no blob that its snapshots do not need, though frames of the store do: chunks, nodes, attributes, manifests.
func TestNothingUnreached(t *testing.T) {
	s, out := newSource(t), t.TempDir()
	r := rand.New(rand.NewPCG(6, 6))
	files := randomFiles(r, 30)
	for i := range 4 { // with content lists of their own
		files[fmt.Sprintf("large%d", i)] = noise(uint64(i), 2_000_000)
	}
	s.xattrs = map[string][]byte{}
	for name := range files {
		s.xattrs[name] = append(noise(uint64(len(s.xattrs)), 2000), name...)
	}
	s.take(files)
	for i := range 15 {
		delete(files, fmt.Sprintf("file%d", i*2))
	}
	delete(files, "large0")
	delete(files, "large2")
	id := s.take(files)
	o := s.options(out, id)
	o.Level = LevelFull
	res, err := Create(t.Context(), s.st, o)
	must(t, err)
	need := s.needs(id)
	held, shared := map[store.Kind]int{}, map[store.Kind]int{}
	for _, v := range res.Set.Volumes {
		for _, f := range s.frames(v) {
			for _, b := range f.Blobs {
				kind := store.Kind(b.Kind)
				if held[kind]++; !need[reference{kind, b.ID}] {
					t.Errorf("%v %s is not needed", kind, b.ID)
				}
				if s.sharesFrame(b.ID, need) {
					shared[kind]++
				}
			}
		}
	}
	kinds := map[store.Kind]int{}
	for n := range need {
		kinds[n.kind]++
	}
	if !reflect.DeepEqual(held, kinds) || len(kinds) != 4 {
		t.Errorf("held %v, needed %v", held, kinds)
	}
	for _, kind := range []store.Kind{store.KindChunk, store.KindNode, store.KindXattrs} {
		if shared[kind] == 0 {
			t.Errorf("no frame of the store has blobs of kind %v that are needed beside others", kind)
		}
	}
}

// needs lists all that a snapshot needs.
func (s *origin) needs(id store.ID) map[reference]bool {
	need := map[reference]bool{}
	for open := []reference{{store.KindManifest, id}}; len(open) > 0; {
		at := open[0]
		if open = open[1:]; need[at] {
			continue
		}
		need[at] = true
		data, err := s.st.Get(s.t.Context(), at.kind, at.id)
		must(s.t, err)
		must(s.t, snapshot.References(at.kind, data, func(kind store.Kind, id store.ID) { open = append(open, reference{kind, id}) }))
	}
	return need
}

// packed is the plaintext of the frame of the store in which a blob lies.
func (s *origin) packed(id store.ID) []byte {
	places, err := s.st.Locate(s.t.Context(), []store.ID{id})
	must(s.t, err)
	var buf []byte
	plain, err := s.st.Pack(s.t.Context(), places[0], id, &buf)
	must(s.t, err)
	return plain
}

// sharesFrame reports whether a blob lies in a frame of the store with others that are not needed.
func (s *origin) sharesFrame(id store.ID, need map[reference]bool) bool {
	pack, err := volume.ParsePack(s.packed(id))
	must(s.t, err)
	for _, b := range pack.Blobs {
		if !need[reference{store.Kind(b.Kind), b.ID}] {
			return true
		}
	}
	return false
}

// TestWholeFramesAsTheyAre: frames of which everything is wanted are not compressed anew: what the store packed without compression is in the set
// byte for byte. Others are packed anew, and compressed.
func TestWholeFramesAsTheyAre(t *testing.T) {
	s := newSourceOf(t, store.InitOptions{Compression: store.CompressionNone})
	files := map[string][]byte{}
	for i := range 40 {
		files[fmt.Sprintf("file%d", i)] = bytes.Repeat(noise(uint64(i), 50), 40+i*i*5)
	}
	all := s.take(files)
	for i := range 20 {
		delete(files, fmt.Sprintf("file%d", i*2))
	}
	for _, c := range []struct {
		id    store.ID
		whole bool
	}{{all, true}, {s.take(files), false}} {
		o := s.options(t.TempDir(), c.id)
		o.Level = LevelFull
		res, err := Create(t.Context(), s.st, o)
		must(t, err)
		equal, anew := 0, 0
		for _, v := range res.Set.Volumes {
			for _, f := range s.frames(v) {
				if f.Kind != volume.FrameBlobs || store.Kind(f.Blobs[0].Kind) != store.KindChunk {
					continue
				}
				pack, err := volume.ParsePack(f.plain)
				must(t, err)
				if bytes.Equal(f.plain, s.packed(f.Blobs[0].ID)) {
					equal++
				} else if anew++; pack.Codec == volume.CodecNone {
					t.Errorf("%d blobs were packed anew without compression", len(f.Blobs))
				}
			}
		}
		if equal == 0 || (anew == 0) != c.whole {
			t.Errorf("everything wanted %v: %d frames as they were, %d packed anew", c.whole, equal, anew)
		}
	}
}
