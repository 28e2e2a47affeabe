package main

import (
	"os"
	"runtime"
	"runtime/debug"
)

// Soft limits of the Go heap. They keep garbage from piling up between collections; what a job really needs is
// bounded by its own budgets. They stand clear of that: near it the collector runs all the time.
const (
	backupMemory  = 160 << 20
	restoreMemory = 192 << 20 // at 128 MiB: 2.7 instead of 1.3 s CPU for 50,000 files
	mountMemory   = 80 << 20  // and the cache; at 80 MiB in all: four times the CPU for tar of 1 GB
)

// The collector runs early where the heap is large and garbage is little: the memory tables of the index alone would
// let garbage grow by their size. Peaks measured at the usual 100 % and at these: backup 240 and 130 MB, mount 126 and
// 100 MB.
const (
	backupGC = 25
	mountGC  = 50
)

// restoreCache is enough for those that read a store in its own order, each frame once; bytes.
const restoreCache = 12 << 20

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

// overlapCalls lets twice as many goroutines run as there are cores, unless the user has said how many, and returns how many there
// are. One that waits in a system call for the disk keeps its place until the runtime notices, up to 10 ms later: with a
// place a core a tenth of a cold backup's time is idle.
func overlapCalls() (cores int) {
	cores = runtime.GOMAXPROCS(0) // fewer than the machine has where a control group says so
	if n := runtime.NumCPU(); cores > n {
		return n // done already
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(2 * cores)
	}
	return cores
}
