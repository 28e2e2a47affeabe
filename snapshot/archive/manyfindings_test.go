package archive

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/zeebo/xxh3"

	"snapfs/store/volume"
)

// shards is a volume of many small frames that are all damaged.
func shards(t testing.TB, path string, n int) io.Reader {
	data, err := os.ReadFile(path)
	must(t, err)
	l, length, err := volume.ParseLabel(data)
	must(t, err)
	seed := binary.LittleEndian.Uint64(l.Volume[:8]) ^ binary.LittleEndian.Uint64(l.Volume[8:])
	frame := append(bytes.Clone(data[length:][:volume.HeaderSize]), 0)
	binary.LittleEndian.PutUint32(frame[28:], 1)
	all := bytes.Clone(data[:length])
	for i := range n {
		binary.LittleEndian.PutUint32(frame[24:], uint32(i))
		binary.LittleEndian.PutUint64(frame[48:], xxh3.HashSeed(frame[:48], seed))
		all = append(all, frame...)
	}
	return bytes.NewReader(all)
}

// TestManyFindings: a volume of nothing but damage takes no memory for each piece of it.
func TestManyFindings(t *testing.T) {
	dir, o := withParityVolumes(t, 1)
	const n = findingsMost + 50_000
	o.Stdin = shards(t, glob(t, dir, "*-0001"+Suffix), n)
	told, last := 0, Finding{}
	r, err := Check(t.Context(), []string{"-"}, CheckOptions{OpenOptions: o, NoKey: true, Found: func(f Finding) { told, last = told+1, f }})
	must(t, err)
	if told != findingsMost+1 || r.Findings < n || last.Volume == "" || !strings.Contains(last.What, "more findings in it are not listed") {
		t.Errorf("%d told of %d, %+v", told, r.Findings, last)
	}
}
