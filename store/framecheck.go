package store

import (
	"crypto/cipher"
	"errors"
	"fmt"

	"snapfs/store/volume"
)

// errBlobID: a blob in a whole frame is not what its ID says, which no accident of the medium can bring about.
var errBlobID = errors.New("blob is not what its ID says")

// frameChecker opens frames and hashes every blob in them. It keeps its buffer; one for each goroutine.
type frameChecker struct {
	keys idKeys
	body []byte
}

// open checks a whole frame of blobs: sums, seal, table, compressed body, and the ID of each blob. stored is overwritten. Errors
// are of type *frameError.
func (c *frameChecker) open(stored []byte, v volume.ID, aead cipher.AEAD) ([]volume.Blob, error) {
	h, plain, err := volume.OpenFrame(stored, v, aead)
	if err == nil && h.Kind != volume.FrameBlobs {
		err = fmt.Errorf("frame of kind %d where blobs were expected", h.Kind)
	}
	if err != nil {
		return nil, &frameError{err}
	}
	return c.pack(plain)
}

// pack checks the plaintext of a frame of blobs.
func (c *frameChecker) pack(plain []byte) ([]volume.Blob, error) {
	pack, err := volume.ParsePack(plain)
	if err != nil {
		return nil, &frameError{err}
	}
	if need := int(pack.RawLength) + volume.BodySlack; cap(c.body) < need {
		c.body = make([]byte, 0, need)
	}
	body, err := pack.Body(c.body[:0])
	if err != nil {
		return pack.Blobs, &frameError{err}
	}
	for _, b := range pack.Blobs {
		if c.keys.id(Kind(b.Kind), body[:b.Length]) != b.ID {
			return pack.Blobs, &frameError{fmt.Errorf("%w: %s", errBlobID, b.ID)}
		}
		body = body[b.Length:]
	}
	return pack.Blobs, nil
}
