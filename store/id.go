package store

import "snapfs/store/volume"

// ID names a blob: the keyed BLAKE3-256 of its plaintext, under a key of its Kind.
type ID = volume.BlobID

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
