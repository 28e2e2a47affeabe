package store

import "snapfs/store/chunker"

// CutParams are the sizes of chunks, bytes, that Store.Cutter cuts by.
type CutParams = chunker.Params
