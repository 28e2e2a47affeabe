package fs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A beacon tells other processes which one serves a mount and when it has ended: a listening socket in the abstract
// namespace, named after the mount's device number. Connecting needs no right, no file and no answer; the kernel tells
// the listener's process, and ends the connection with it. Nothing of this touches the mount, which may be dead.
type beacon struct{ fd int }

// A device number may be used again while its former server is still on its way out, so a mount has a few names.
const beaconNames = 4

const beaconBacklog = 1024 // connections are never accepted; each try to unmount leaves one

func beaconName(info mountInfo, i int) string {
	return fmt.Sprintf("@snapfs-mount-%s-%d", info.device, i)
}

// newBeacon lights a mount's beacon. Without one the mount works; only umount will not wait for the process.
func newBeacon(info mountInfo, log *slog.Logger) *beacon {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		if err = bindBeacon(fd, info); err == nil {
			return &beacon{fd}
		}
		unix.Close(fd)
	}
	log.Warn("umount will not wait for this process", "err", err)
	return nil
}

func bindBeacon(fd int, info mountInfo) error {
	err := error(unix.EADDRINUSE)
	for i := 0; i < beaconNames && errors.Is(err, unix.EADDRINUSE); i++ {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: beaconName(info, i)})
	}
	if err != nil {
		return err
	}
	return unix.Listen(fd, beaconBacklog)
}

func (b *beacon) close() {
	if b != nil && b.fd >= 0 {
		unix.Close(b.fd)
		b.fd = -1
	}
}

// servers are the processes that serve a mount: one, and seldom another on its way out.
type servers []served

type served struct {
	conn  int // hangs up when the beacon goes out
	pidfd int // readable when the process has ended; -1 if it is not in sight
}

// watchServers finds who serves a mount. Beacons of other users than the mount's are not believed.
func watchServers(info mountInfo) servers {
	var found servers
	for i := range beaconNames {
		if w, ok := watchServer(info, i); ok {
			found = append(found, w)
		}
	}
	return found
}

func watchServer(info mountInfo, i int) (served, bool) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return served{}, false
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: beaconName(info, i)}); err != nil {
		unix.Close(fd)
		return served{}, false
	}
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || int(cred.Uid) != info.user && cred.Uid != 0 || int(cred.Pid) == os.Getpid() {
		unix.Close(fd)
		return served{}, false
	}
	w := served{conn: fd, pidfd: -1}
	if pidfd, err := unix.PidfdOpen(int(cred.Pid), 0); err == nil {
		w.pidfd = pidfd
	}
	return w, true
}

func (s servers) close() {
	for _, w := range s {
		unix.Close(w.conn)
		if w.pidfd >= 0 {
			unix.Close(w.pidfd)
		}
	}
}

// A beacon goes out a moment before its process has ended, or when a service that lives on has closed its mount.
const lastMoment = 200 * time.Millisecond

// wait returns when all have ended.
func (s servers) wait(ctx context.Context) error {
	for _, w := range s {
		if err := pollFD(ctx, w.conn, unix.POLLIN); err != nil {
			return err
		}
		if w.pidfd < 0 {
			continue
		}
		moment, cancel := context.WithTimeout(ctx, lastMoment)
		err := pollFD(moment, w.pidfd, unix.POLLIN)
		cancel()
		if err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// pollStep bounds how late the end of a context is noticed.
const pollStep = 20 * time.Millisecond

func pollFD(ctx context.Context, fd int, events int16) error {
	for ctx.Err() == nil {
		fds := []unix.PollFd{{Fd: int32(fd), Events: events}}
		n, err := unix.Poll(fds, int(pollStep/time.Millisecond))
		if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return nil
		}
	}
	return ctx.Err()
}
