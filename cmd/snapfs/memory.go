package main

import (
	"os"
	"runtime/debug"
)

// Soft limits of the Go heap. They keep garbage from piling up between collections; what a job really needs is
// bounded by its own budgets, below these.
const (
	backupMemory  = 150 << 20
	restoreMemory = 128 << 20
	mountMemory   = 80 << 20 // and the cache, if one is asked for
)

// mountGC makes a mount collect garbage early: the index's memory tables are a part of the heap that hardly changes,
// and would let garbage grow to the same size (measured: 126 instead of 101 MB at the peak).
const mountGC = 25

// limitMemory sets a soft limit unless the user has set one.
func limitMemory(bytes int64) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(bytes)
	}
}

// collectEarly sets the garbage collector's percentage unless the user has set one.
func collectEarly(percent int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}
