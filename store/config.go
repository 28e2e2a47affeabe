package store

import (
	"crypto/hmac"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"snapfs/store/seal"
	"snapfs/store/volume"
)

// Names below the store's directory. On disk; append only.
const (
	configName  = "snapfs.json"
	keysName    = "keys"
	volumesName = "volumes"
	indexName   = "index"
	lockName    = "lock"
	socketName  = "snapfs.sock"
)

// formatVersion is the version of the store's format as a whole. On disk; append only.
const formatVersion = 1

// featuresKnown are the features this program can read and write. Names on disk; append only.
var featuresKnown = []string{"blake3-ids", "aes-256-gcm", "zstd", "s2", "fastcdc-keyed-gear", "paged-nodes", "facts"}

// featureAppendOnly is a feature of append-only stores: a program that does not know it would write facts without
// signatures, which do not count. On disk; append only.
const featureAppendOnly = "append-only"

// config is snapfs.json.
type config struct {
	Format        int         `json:"format"`
	ID            string      `json:"id"` // 16 random bytes
	Created       time.Time   `json:"created"`
	Program       string      `json:"program"`
	ChunkAverage  int         `json:"chunk_average"` // bytes
	Compression   Compression `json:"compression"`
	Parity        *int        `json:"parity,omitempty"` // percent; missing in stores of the first release: the default
	FeaturesRead  []string    `json:"features_read"`
	FeaturesWrite []string    `json:"features_write"`
	MAC           string      `json:"mac,omitempty"` // keyed BLAKE3 of this object without the field

	raw []byte // the file as read
}

func (c config) storeID() (id [16]byte, err error) {
	if n, err := hex.Decode(id[:], []byte(c.ID)); err != nil || n != len(id) || len(c.ID) != 32 {
		return id, fmt.Errorf("%w: bad id %q", ErrConfig, c.ID)
	}
	return id, nil
}

// newConfig fills in the parameters of a store to be made.
func newConfig(o InitOptions, now time.Time) (config, error) {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return config{}, err
	}
	c := config{
		Format: formatVersion, ID: hex.EncodeToString(id[:]), Created: now.UTC().Truncate(time.Second),
		Program: o.Program, ChunkAverage: o.ChunkAverage, Compression: o.Compression,
		FeaturesRead: featuresKnown, FeaturesWrite: featuresKnown,
	}
	if o.AppendOnly {
		c.FeaturesWrite = append(slices.Clone(c.FeaturesWrite), featureAppendOnly)
	}
	if c.ChunkAverage == 0 {
		c.ChunkAverage = 512 << 10
	}
	if c.Compression == "" {
		c.Compression = CompressionFastest
	}
	percent := max(o.Parity, 0)
	if o.Parity == 0 {
		percent = DefaultParity
	}
	c.Parity = &percent
	return c, c.check()
}

// Parity in percent of what is stored.
const (
	DefaultParity = 3
	MaxParity     = volume.MaxParity
	NoParity      = -1 // for InitOptions
)

// maxChunk is the largest chunk under any setting: four times the largest average. A message of package wire has to carry it.
const maxChunk = 16 << 20

// check refuses parameters outside what the program supports.
func (c config) check() error {
	if c.ChunkAverage < 16<<10 || c.ChunkAverage > maxChunk/4 || c.ChunkAverage&(c.ChunkAverage-1) != 0 {
		return fmt.Errorf("chunk average %d: want a power of two from 16K to 4M", c.ChunkAverage)
	}
	if _, err := c.Compression.level(); err != nil {
		return err
	}
	if p := c.parity(); p < 0 || p > MaxParity {
		return fmt.Errorf("parity of %d percent: want 0 to %d", p, MaxParity)
	}
	return nil
}

// parity is what new volumes get, in percent.
func (c config) parity() int {
	if c.Parity == nil {
		return DefaultParity
	}
	return *c.Parity
}

// encode gives the file's bytes, with the MAC under the bundle's key.
func (c config) encode(b *seal.Bundle) ([]byte, error) {
	c.MAC = ""
	plain, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	mac, err := configMAC(b, plain)
	if err != nil {
		return nil, err
	}
	c.MAC = hex.EncodeToString(mac[:])
	data, err := json.MarshalIndent(c, "", "  ")
	return append(data, '\n'), err
}

// configMAC is taken over the object with sorted keys, no white space and no "mac", so that fields a later
// version adds are covered and kept.
func configMAC(b *seal.Bundle, data []byte) ([32]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return [32]byte{}, err
	}
	delete(fields, "mac")
	canonical, err := json.Marshal(fields)
	if err != nil {
		return [32]byte{}, err
	}
	return b.MAC(canonical), nil
}

// verify checks the MAC: that the file belongs to these keys and was not changed.
func (c config) verify(b *seal.Bundle) error {
	want, err := configMAC(b, c.raw)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	got, err := hex.DecodeString(c.MAC)
	if err != nil || !hmac.Equal(got, want[:]) {
		return fmt.Errorf("%w: checksum does not match", ErrConfig)
	}
	return c.check()
}

// noStore says what a directory without snapfs.json is: nothing, or what is left of a store.
func noStore(dir string) error {
	if volumes, err := onDisk(volumesDir(dir)); err != nil || len(volumes) == 0 {
		return fmt.Errorf("%s: %w", dir, ErrNoStore)
	}
	return fmt.Errorf("%s: %w", dir, ErrNoConfig)
}

// readConfig reads snapfs.json and refuses formats and features from the future.
func readConfig(dir string) (config, error) {
	var c config
	data, err := os.ReadFile(filepath.Join(dir, configName))
	if isNothing(err) {
		return c, noStore(dir)
	}
	if err != nil {
		return c, err
	}
	var version struct {
		Format       int      `json:"format"`
		FeaturesRead []string `json:"features_read"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return c, fmt.Errorf("%s: %w: %w", dir, ErrConfig, err)
	}
	if version.Format > formatVersion {
		return c, fmt.Errorf("%s: %w: format %d, this one knows %d", dir, ErrNewerFormat, version.Format, formatVersion)
	}
	for _, f := range version.FeaturesRead {
		if !slices.Contains(featuresKnown, f) {
			return c, fmt.Errorf("%s: %w: feature %q", dir, ErrNewerFormat, f)
		}
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return c, fmt.Errorf("%s: %w: %w", dir, ErrConfig, err)
	}
	c.raw = data
	return c, nil
}

// mayWrite refuses to write a store on a read-only file system, one that is no longer where it was opened, and one that needs features this program
// cannot write.
func (e *engine) mayWrite() error {
	if e.frozen {
		return fmt.Errorf("%s: %w", e.dir, syscall.EROFS)
	}
	for _, f := range e.config.FeaturesWrite {
		if !slices.Contains(featuresKnown, f) && f != featureAppendOnly {
			return fmt.Errorf("%w: feature %q", ErrNewerFormat, f)
		}
	}
	return e.lock.inPlace()
}
