package store

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"time"
)

// processID names a process so that a later one with the same number is not taken for it.
type processID struct {
	pid     int // 0: not known
	started uint64
	boot    string // of the machine, with the name space of process numbers
}

// processOf looks a process up; what cannot be found out stays zero.
func processOf(pid int) processID {
	p := processID{pid: pid, boot: bootID()}
	started, alive := processStart(pid)
	if !alive {
		p.pid = 0
	}
	p.started = started
	return p
}

// bootID names this run of the machine as seen from here: process numbers mean something only within it.
func bootID() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	space, _ := os.Readlink("/proc/self/ns/pid") // "" is a name space as well
	return strings.TrimSpace(string(boot)) + " " + space
}

// processStart is when a process began, in ticks since the machine did; alive is false if there is none, or only what is
// left of one for its parent.
func processStart(pid int) (started uint64, alive bool) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	end := bytes.LastIndexByte(data, ')') // the name before it may hold anything
	if err != nil || end < 0 {
		return 0, false
	}
	fields := strings.Fields(string(data[end+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return 0, false
	}
	started, err = strconv.ParseUint(fields[19], 10, 64)
	return started, err == nil
}

// unknownPatience is after how long a session counts as dead whose process cannot be looked at.
const unknownPatience = time.Hour

// dead reports whether the process has certainly ended, or was last heard of so long ago that it counts as if.
func (p processID) dead(heard, now time.Time) bool {
	boot := bootID()
	sameMachine := strings.SplitN(p.boot, " ", 2)[0] == strings.SplitN(boot, " ", 2)[0]
	if p.pid == 0 || p.boot != boot && sameMachine || boot == "" {
		return now.Sub(heard) > unknownPatience
	}
	if !sameMachine {
		return true
	}
	started, alive := processStart(p.pid)
	return !alive || started != p.started
}
