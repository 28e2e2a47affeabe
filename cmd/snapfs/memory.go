package main

import (
	"os"
	"runtime/debug"
)

// Soft limits of the Go heap. They keep garbage from piling up between collections; what a job really needs is
// bounded by its own budgets, below these.
const (
	backupMemory  = 128 << 20
	mountMemory   = 64 << 20
	restoreMemory = 128 << 20
)

// limitMemory sets a soft limit unless the user has set one.
func limitMemory(bytes int64) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(bytes)
	}
}
