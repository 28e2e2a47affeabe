package store

import (
	"encoding/hex"
	"fmt"

	"snapfs/store/volume"
)

// ID names a blob: the keyed BLAKE3-256 of its plaintext, under a key of its Kind.
type ID = volume.BlobID

// ParseID reads the 64-digit hexadecimal form.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 2*len(id) {
		return id, fmt.Errorf("id %q: want %d hexadecimal digits", s, 2*len(id))
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return id, fmt.Errorf("id %q: %w", s, err)
	}
	return id, nil
}

// Kind says what a blob is. Blobs of different kinds never share an ID.
type Kind uint8

// Blob kinds. On disk; append only.
const (
	KindChunk    Kind = 1 // file data: a chunk, or a whole small file
	KindNode     Kind = 2 // a page of a directory, of a chunk list or of a link tree
	KindXattrs   Kind = 3 // a set of extended attributes over 1 KiB
	KindManifest Kind = 4 // a snapshot's manifest
	KindFact     Kind = 5 // a fact; never stored as a blob, but named like one
)
