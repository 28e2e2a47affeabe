package fs

import (
	"context"
	"path/filepath"
	"time"

	"snapfs/store"
)

// lazyWait is how long a lazy umount waits for the server: it ends only with the last open file.
const lazyWait = 500 * time.Millisecond

// Unmount detaches the snapfs mount on dir, whoever serves it, and returns when the mount is gone and the process
// that served it has ended. While files are in use it fails with ErrBusy; lazily it takes the mount out of sight at
// once and leaves the server to end with the last open file. Errors are *MountError.
func Unmount(ctx context.Context, dir string, lazy bool) error {
	if err := unmount(ctx, dir, lazy); err != nil {
		return &MountError{"umount", dir, err}
	}
	return nil
}

func unmount(ctx context.Context, dir string, lazy bool) error {
	info, err := findMount(dir)
	if err != nil {
		return err
	}
	servers := watchServers(info)
	defer servers.close()
	if err := detach(info.path, lazy); err != nil {
		return err
	}
	if mountedElsewhere(info) {
		return nil // a bind mount still needs the server
	}
	if lazy {
		short, cancel := context.WithTimeout(ctx, lazyWait)
		defer cancel()
		_ = servers.wait(short) // files are open: the server may stay
		return ctx.Err()
	}
	return servers.wait(ctx)
}

// findMount finds the mount on dir without touching it. Only a symbolic link to a mountpoint is followed.
func findMount(dir string) (mountInfo, error) {
	abs, err := store.AbsolutePath(dir)
	if err != nil {
		return mountInfo{}, err
	}
	if info, err := mountAt(abs); err == nil {
		return info, nil
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return mountInfo{}, mountpointError(err)
	}
	if info, err := mountAt(filepath.Join(parent, filepath.Base(abs))); err == nil {
		return info, nil
	}
	path, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return mountInfo{}, mountpointError(err)
	}
	return mountAt(path)
}

func mountedElsewhere(info mountInfo) bool {
	all, err := readMountInfo()
	if err != nil {
		return false
	}
	for _, m := range all {
		if m.device == info.device && m.fsType == fsType {
			return true
		}
	}
	return false
}
