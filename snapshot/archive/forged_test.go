package archive

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"snapfs/store/volume"
)

// parityVolume is a volume of parity whoever wrote it: its label and what it holds are protected by sums alone.
type parityVolume struct {
	label  volume.Label
	what   *SetParity
	parity []byte
	newer  bool // with a frame of a newer format
}

func readParityVolume(t testing.TB, path string) (p parityVolume) {
	data, err := os.ReadFile(path)
	must(t, err)
	r := bytes.NewReader(data)
	p.label, _, err = volume.ReadLabel(r, r.Size())
	must(t, err)
	p.what, err = ParseSetParity(p.label.Set.Parity)
	must(t, err)
	_, _, err = volume.ScanPayloads(r, 0, r.Size(), p.label.Volume, func(_ int64, h volume.Header, stored []byte, damage error) error {
		if h.Kind == volume.FrameSetParity {
			p.parity = append(p.parity, stored[volume.HeaderSize+8:]...)
		}
		return damage
	})
	must(t, err)
	return p
}

// write writes it as another volume.
func (p parityVolume) write(t testing.TB, path string) {
	f, err := os.Create(path)
	must(t, err)
	p.label.Volume[0]++
	p.label.Set.Parity = p.what.Encode()
	block, err := aes.NewCipher(make([]byte, 32))
	must(t, err)
	aead, err := cipher.NewGCM(block)
	must(t, err)
	w, err := volume.Create(f, p.label, volume.Options{AEAD: aead})
	must(t, err)
	for at := 0; at < len(p.parity); at += volume.SetParityFrame {
		b := binary.LittleEndian.AppendUint64(nil, uint64(at))
		_, _, err := w.Append(volume.FrameSetParity, append(b, p.parity[at:min(len(p.parity), at+volume.SetParityFrame)]...), nil)
		must(t, err)
	}
	if p.newer {
		_, _, err := w.Append(1<<7|60, nil, nil)
		must(t, err)
	}
	must(t, w.Seal())
	must(t, w.Close())
}

// parityOf is parity with one row over one volume alone.
func parityOf(t testing.TB, data []byte) (Covered, []byte) {
	code, err := volume.NewSetCode(1)
	must(t, err)
	row := make([]byte, len(data))
	must(t, code.Add(0, data, [][]byte{row}))
	return Covered{ID: volume.ID{0xff, 1}, Number: 1, Length: int64(len(data)), Digest: digestOf(data)}, row
}

func digestOf(data []byte) [32]byte {
	d := volume.NewDigest()
	d.Write(data)
	return [32]byte(d.Sum(nil))
}

// TestForgedParity: parity volumes of another generation, or forged, stop nothing: what they would make anew is what it should be, or missing.
func TestForgedParity(t *testing.T) {
	for _, c := range []struct {
		name  string
		lose  []string // beside volume 2
		forge func(*parityVolume)
		whole bool
		notes []string
	}{
		{"other parity, nothing else", []string{"-parity-1", "-parity-2"}, func(p *parityVolume) { p.parity[5000] ^= 1 }, false, []string{"forged", "volume 2 of set"}},
		{"other parity beside the right one", nil, func(p *parityVolume) { p.parity[5000] ^= 1 }, true, []string{"forged", "was made anew"}},
		{"other parity and the other row", []string{"-parity-1"}, func(p *parityVolume) { p.parity[5000] ^= 1 }, true, []string{"forged", "was made anew"}},
		{"of another group", nil, func(p *parityVolume) { p.what.Group++ }, true, []string{"was made anew"}},
		{"a number beyond the group", []string{"-parity-1", "-parity-2"}, func(p *parityVolume) { p.what.Covered[1].Number += 1 << 20 }, false, nil},
		{"of a newer format", []string{"-parity-1", "-parity-2"}, func(p *parityVolume) { p.newer = true }, false, []string{"1 of 2, with 0 parity volumes"}},
		{"other digests", nil, func(p *parityVolume) {
			for i := range p.what.Covered {
				p.what.Covered[i].Digest[0] ^= 1
			}
		}, true, []string{"was made anew"}},
		{"another digest of the lost volume", nil, func(p *parityVolume) { p.what.Covered[1].Digest[0] ^= 1 }, true, []string{"forged", "was made anew"}},
		{"what it makes is no volume", nil, func(p *parityVolume) {
			var covered Covered
			covered, p.parity = parityOf(t, noise(1, 10_000))
			p.what = &SetParity{Volumes: 1, Covered: []Covered{covered}}
		}, true, []string{"forged", "was made anew"}},
		{"what it makes is no volume of a set", nil, func(p *parityVolume) {
			l := p.label
			l.Kind, l.Set = volume.Data, nil
			label, err := volume.EncodeLabel(l)
			must(t, err)
			var covered Covered
			covered, p.parity = parityOf(t, label)
			p.what = &SetParity{Volumes: 1, Covered: []Covered{covered}}
		}, true, []string{"forged", "was made anew"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, o := withParityVolumes(t, 2)
			p := readParityVolume(t, glob(t, dir, "*-parity-1"+Suffix))
			c.forge(&p)
			p.write(t, filepath.Join(dir, "a-forged"+Suffix))
			for _, name := range append(c.lose, "-0002") {
				must(t, os.Remove(glob(t, dir, "*"+name+Suffix)))
			}
			notes := ""
			o.Note = func(note string) { notes += note + "\n" }
			b, err := Open(t.Context(), []string{dir}, o)
			must(t, err)
			defer b.Close()
			lacking, err := b.lacking(t)
			must(t, err)
			if (lacking == 0) != c.whole {
				t.Errorf("%d chunks are missing", lacking)
			}
			for _, note := range c.notes {
				if !strings.Contains(notes, note) {
					t.Errorf("%q is not in\n%s", note, notes)
				}
			}
			if p.newer { // a repair does not touch what it does not know
				return
			}
			to := t.TempDir()
			r, err := Repair(t.Context(), []string{dir}, RepairOptions{To: to, Done: func(d Repaired) { t.Logf("%+v", d) }})
			must(t, err)
			if (r.Recomputed > 0) != c.whole {
				t.Errorf("repaired: %+v", r)
			}
			left, err := filepath.Glob(filepath.Join(to, "*.partial"))
			if must(t, err); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}
