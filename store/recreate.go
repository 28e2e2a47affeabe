package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"snapfs/store/seal"
	"snapfs/store/volume"
)

// Recreate makes snapfs.json for a directory that has keys and volumes and lost it, or never had it: volumes collected
// from anywhere with a key slot. The parameters are the defaults; what is stored does not depend on them. Errors:
// ErrStoreExists, ErrNoStore (no volumes), ErrNoKeys, ErrForeignKeys (of another store than the volumes), those of unlocking.
func Recreate(ctx context.Context, dir string, o Options) error {
	dir, err := AbsolutePath(dir)
	if err != nil {
		return err
	}
	config := filepath.Join(dir, configName)
	if _, err := os.Lstat(config); err == nil {
		return fmt.Errorf("%s: %w", dir, ErrStoreExists)
	}
	if err := checkOwner(dir); err != nil {
		return err
	}
	id, err := labelledStore(dir)
	if err != nil {
		return err
	}
	bundle, err := seal.Open(ctx, filepath.Join(dir, keysName), o.Unlock)
	if err != nil {
		return err
	}
	if err := opensVolumes(dir, bundle); err != nil {
		return err
	}
	c, err := newConfig(InitOptions{Program: o.Program, AppendOnly: bundle.AppendOnly() != nil}, time.Now())
	if err != nil {
		return err
	}
	c.ID = hex.EncodeToString(id[:])
	data, err := c.encode(bundle)
	if err != nil {
		return err
	}
	files, err := filesFor(dir)
	if err != nil {
		return err
	}
	return files.WriteFile(config, data)
}

// labelledStore reads from the volumes' labels which store they belong to.
func labelledStore(dir string) (id [16]byte, err error) {
	volumes, err := onDisk(volumesDir(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return id, fmt.Errorf("%s: %w", dir, ErrNoStore)
	}
	if err != nil {
		return id, err
	}
	for v, size := range volumes {
		label, err := labelOf(volumePath(dir, v), size)
		if err != nil {
			continue // damaged: others will do
		}
		if id != ([16]byte{}) && label.Store != id {
			return id, fmt.Errorf("%s: volumes of several stores (%x, %x): keep those of one", dir, id, label.Store)
		}
		id = label.Store
	}
	if id == ([16]byte{}) {
		return id, fmt.Errorf("%s: no readable volume: %w", dir, ErrNoStore)
	}
	return id, nil
}

// opensVolumes makes sure that keys are those of the volumes: of each it tries the first frame that is whole, until one opens. With keys of another
// store nothing would be found in them, and what is written from then on would lie between what it does not belong to.
func opensVolumes(dir string, bundle *seal.Bundle) error {
	volumes, err := onDisk(volumesDir(dir))
	if err != nil {
		return err
	}
	tried := false
	for v, size := range volumes {
		opened, whole := opensVolume(volumePath(dir, v), size, v, bundle)
		if opened {
			return nil
		}
		tried = tried || whole
	}
	if tried {
		return fmt.Errorf("keys of %s: %w", dir, ErrForeignKeys)
	}
	return nil // there is nothing that could tell
}

// errEnough ends a scan.
var errEnough = errors.New("enough was read")

// opensVolume tries the first frame of a volume that is whole and sealed; what cannot be read has none.
func opensVolume(path string, size int64, id volume.ID, bundle *seal.Bundle) (opened, whole bool) {
	file, err := os.Open(path)
	if err != nil {
		return false, false
	}
	defer file.Close()
	aead, err := bundle.VolumeAEAD(id)
	if err != nil {
		return false, false
	}
	_, _, _ = volume.ScanPayloads(file, 0, size, id, func(_ int64, h volume.Header, stored []byte, damage error) error {
		if damage != nil || h.Kind != volume.FrameFacts && h.Kind != volume.FrameBlobs {
			return nil
		}
		_, _, openErr := volume.OpenFrame(stored, id, aead)
		opened, whole = openErr == nil, true
		return errEnough
	})
	return opened, whole
}

func labelOf(path string, size int64) (volume.Label, error) {
	file, err := os.Open(path)
	if err != nil {
		return volume.Label{}, err
	}
	defer file.Close()
	return readLabel(file, size)
}
