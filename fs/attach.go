package fs

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const (
	fsSubtype = "snapfs"
	fsType    = "fuse." + fsSubtype
	device    = "/dev/fuse"

	background = 64 // requests the kernel may have waiting
	readAhead  = "1024"
)

// attach mounts: as root by the system call, else by fusermount3.
func attach(core *server, dir string, o *Options, storeDir string) (*fuse.Server, error) {
	opts := mountOptions(core, o, storeDir)
	if os.Geteuid() == 0 {
		opts.DirectMountStrict = true
		srv, err := fuse.NewServer(core, dir, opts)
		if err == nil || !errors.Is(err, unix.EPERM) {
			return srv, attachError(err, o)
		}
		opts.DirectMountStrict = false // root of a container without the right to mount
	}
	if _, err := exec.LookPath("fusermount3"); err != nil {
		return nil, fmt.Errorf("%w: fusermount3 is not installed", ErrNoFUSE)
	}
	if err := mayOpen(device); err != nil { // fusermount3 opens it with the caller's rights
		return nil, err
	}
	// The kernel's own option: fusermount3 takes it as text.
	opts.Options = append(opts.Options, "ro", "nosuid", "nodev")
	srv, err := fuse.NewServer(core, dir, opts)
	return srv, attachError(err, o)
}

// mountOptions are those that doc.go explains.
func mountOptions(core *server, o *Options, storeDir string) *fuse.MountOptions {
	return &fuse.MountOptions{
		Name:                     fsSubtype,
		FsName:                   storeDir,
		Options:                  []string{"default_permissions"},
		DirectMountFlags:         unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV,
		AllowOther:               o.AllowOther,
		EnableAcl:                core.how.acls,
		MaxWrite:                 readSize,
		MaxBackground:            background,
		DisableSplice:            true,
		ExplicitDataCacheControl: true,
		EnableSymlinkCaching:     true,
		ExtraCapabilities:        fuse.CAP_NO_OPENDIR_SUPPORT,
		DisabledCapabilities:     fuse.CAP_PASSTHROUGH, // it counts as a layer, which overlays above could use
		Debug:                    o.Debug,
		Logger:                   slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
		PanicHandler: func(v any) fuse.Status {
			o.Log.Error("request failed", "panic", v, "stack", string(debug.Stack()))
			return fuse.EIO
		},
	}
}

func attachError(err error, o *Options) error {
	switch {
	case err == nil:
		return nil
	case missingDevice():
		return fmt.Errorf("%w: %w", ErrNoFUSE, err)
	case os.Geteuid() != 0 && o.AllowOther && !userAllowOther():
		return ErrAllowOther
	}
	if strings.HasPrefix(err.Error(), "fusermount exited") { // its standard error is ours
		return errors.New("fusermount3 refuses, for the reason it gave")
	}
	return errors.New(strings.TrimSpace(err.Error())) // go-fuse ends some with a newline
}

func missingDevice() bool {
	_, err := os.Stat(device)
	return err != nil
}

// mayOpen says that the device is there and closed to this process.
func mayOpen(device string) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err == nil {
		return f.Close()
	}
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%w: %w", ErrDenied, err)
	}
	return nil // the mount will say what it makes of it
}

// raiseReadahead lets the kernel read 1 MiB ahead: its INIT allows no more than 128 KiB. Only root can.
func raiseReadahead(info mountInfo, log *slog.Logger) {
	path := filepath.Join("/sys/class/bdi", info.device, "read_ahead_kb")
	if err := os.WriteFile(path, []byte(readAhead), 0); err != nil {
		log.Debug("readahead stays small", "err", err)
	}
}

// detachAll unmounts a file system wherever it is mounted, lazily where it is busy.
func detachAll(info mountInfo) error {
	all, err := readMountInfo()
	if err != nil {
		return err
	}
	for i := len(all) - 1; i >= 0; i-- {
		m := all[i]
		if m.device != info.device || m.fsType != fsType {
			continue
		}
		err := detach(m.path, false)
		if errors.Is(err, ErrBusy) {
			err = detach(m.path, true)
		}
		if err != nil && !errors.Is(err, ErrNotMounted) {
			return err
		}
	}
	return nil
}

// detach unmounts what is mounted on path.
func detach(path string, lazy bool) error {
	flags := unix.UMOUNT_NOFOLLOW
	if lazy {
		flags |= unix.MNT_DETACH
	}
	err := unix.Unmount(path, flags)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EBUSY):
		return ErrBusy
	case errors.Is(err, unix.EPERM):
		return fusermountUnmount(path, lazy)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
		return ErrNotMounted
	}
	return err
}

// fusermountUnmount has the setuid helper unmount a user's own mount.
func fusermountUnmount(path string, lazy bool) error {
	args := []string{"-u", "--", path}
	if lazy {
		args = []string{"-u", "-z", "--", path}
	}
	cmd := exec.Command("fusermount3", args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("%w: fusermount3 is not installed", ErrNoFUSE)
	case containsError(out, syscall.EBUSY):
		return ErrBusy
	}
	return fmt.Errorf("fusermount3: %s", firstLine(out, err))
}
