package volume

import (
	"fmt"
	"hash"

	"github.com/klauspost/reedsolomon"
	"github.com/zeebo/blake3"
)

// Volumes of an archive set are protected in groups: any SetParityMost or fewer lost ones of SetData are made again from as many
// parity volumes. On disk; append only.
const (
	SetData       = 128
	SetParityMost = 16
)

// SetCode is the code over the volumes of a group: byte by byte, parity j is the sum over n of (byte of volume n) / ((SetData+j) xor n)
// over GF(2^8), polynomial 0x11d. Safe for concurrent use.
type SetCode struct {
	rows int
	code reedsolomon.Encoder
}

// NewSetCode is the code with so many parity volumes, 1 to SetParityMost (ErrTooLarge).
func NewSetCode(parity int) (*SetCode, error) {
	if parity < 1 || parity > SetParityMost {
		return nil, fmt.Errorf("%d parity volumes: %w", parity, ErrTooLarge)
	}
	c, err := reedsolomon.New(SetData, parity, reedsolomon.WithCauchyMatrix(), reedsolomon.WithMaxGoroutines(1))
	return &SetCode{parity, c}, err
}

// Add adds bytes of the volume with that number in its group, from 0, to the parity of the same positions: as many slices of the same
// length as there are parity volumes.
func (c *SetCode) Add(number int, data []byte, parity [][]byte) error {
	return c.code.EncodeIdx(data, number, parity)
}

// Recompute makes lost bytes again: shards are SetData volumes and then the parity, all of one length; nil ones are lost and made if
// enough of the others are there (ErrTooLarge if not). What is not in the group at all are zeros.
func (c *SetCode) Recompute(shards [][]byte) error {
	if err := c.code.ReconstructData(shards); err != nil {
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	return nil
}

// NewDigest is the hash that names the bytes of volumes: BLAKE3 with 256 bits, without a key.
func NewDigest() hash.Hash { return blake3.New() }

// SetParityFrame is how many bytes of parity a frame of a parity volume holds, behind 8 bytes that say from where.
const SetParityFrame = 1 << 20

// LargestCovered is the longest volume for which a parity volume fits into limit bytes.
func LargestCovered(limit int64, label, percent int) int64 {
	n := sealedSize{size: int64(label)}
	if rows := rowsFor(percent); rows > 0 {
		g := fullGeometry(rows)
		n.full = &g
	}
	covered := int64(0)
	end := func(n sealedSize) int64 {
		n.add(n.table + (n.table/tablePart+1)*(HeaderSize+gcmTagSize+partRoom))
		n.add(HeaderSize + int64(label))
		return n.size + n.last() + TrailerSize
	}
	for _, step := range []int64{SetParityFrame, 4 << 10} {
		for {
			next := n
			next.add(HeaderSize + 8 + step)
			next.table += rowRoom
			if end(next) > limit {
				break
			}
			n, covered = next, covered+step
		}
	}
	return covered
}
