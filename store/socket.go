package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// maxSocketPath is how long the path of a unix socket can be (sun_path, with its final zero).
const maxSocketPath = 107

// newSocketName is the socket's name until it listens.
const newSocketName = socketName + ".new"

// viaDir calls use with a path of dir/name that is short enough for a socket: the real one, or one through a descriptor
// of dir. (Changing the directory of the process would do as well, for one thread at a time.)
func viaDir(dir, name string, use func(path string) error) error {
	path := filepath.Join(dir, name)
	if len(path) <= maxSocketPath {
		return use(path)
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	return use(fmt.Sprintf("/proc/self/fd/%d/%s", fd, name))
}

// listenStore makes the store's socket. Needs the store's lock: whoever listened before is gone, and what is left of a
// socket is replaced. stale reports that there was something: clients of that holder may come back.
func listenStore(dir string) (l *net.UnixListener, stale bool, err error) {
	fresh := filepath.Join(dir, newSocketName)
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	err = viaDir(dir, newSocketName, func(path string) (err error) {
		l, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("socket of the store: %w", err)
	}
	l.SetUnlinkOnClose(false)
	if stale, err = publishSocket(dir, fresh); err != nil {
		return nil, false, errors.Join(fmt.Errorf("socket of the store: %w", err), l.Close())
	}
	return l, stale, nil
}

// publishSocket gives the new socket its owner and its name: whoever finds it can connect.
func publishSocket(dir, fresh string) (stale bool, err error) {
	files, err := filesFor(dir)
	if err == nil {
		err = files.own(fresh)
	}
	if err == nil {
		err = os.Chmod(fresh, 0o600)
	}
	if err != nil {
		return false, err
	}
	path := filepath.Join(dir, socketName)
	_, err = os.Lstat(path)
	return err == nil, os.Rename(fresh, path)
}

// dialStore connects to the process that holds the store. A socket that nobody listens on any more is known at
// once: ECONNREFUSED.
func dialStore(ctx context.Context, dir string) (conn *net.UnixConn, err error) {
	err = viaDir(dir, socketName, func(path string) error {
		c, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		if err == nil {
			conn = c.(*net.UnixConn)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := checkPeer(conn, dir); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// checkPeer refuses a connection whose other end is neither root nor the owner of the store (ErrNotOwner).
func checkPeer(conn *net.UnixConn, dir string) error {
	uid, _, err := owner(dir)
	if err != nil {
		return err
	}
	peer, err := peerOf(conn)
	if err != nil {
		return fmt.Errorf("socket of the store: %w", err)
	}
	if peer.Uid != 0 && int(peer.Uid) != uid {
		return fmt.Errorf("user %d: %w", peer.Uid, ErrNotOwner)
	}
	return nil
}

// peerOf asks the kernel who is at the other end.
func peerOf(conn *net.UnixConn) (cred *unix.Ucred, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	return cred, errors.Join(err, credErr)
}

// stopAccepting makes Accept return while the socket goes on to listen: whoever connects from now on waits.
func stopAccepting(l *net.UnixListener) error { return l.SetDeadline(time.Unix(1, 0)) }
