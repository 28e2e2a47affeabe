package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"snapfs/store"
)

func (p *program) statsCommand() *cli.Command {
	return &cli.Command{
		Name: "stats", Usage: "say how large the store is and what is in it",
		Description: about(`
'contents' are all different pieces of data before compression, each counted once. --verbose lists the volumes too, with when all of
each was last verified.`,
			"snapfs stats", "snapfs stats --verbose", "snapfs stats --json"),
		Action: action(0, 0, func(c *cli.Context, _ []string) error { return p.runStats(c.Context) }),
	}
}

// statsObject is the store's size in JSON.
type statsObject struct {
	Store         string `json:"store"`
	StoreID       string `json:"store_id"`
	Created       string `json:"created"`
	Encrypted     bool   `json:"encrypted"`
	KeySlots      int    `json:"key_slots"`
	Datasets      int    `json:"datasets"`
	Snapshots     int    `json:"snapshots"`
	Volumes       int    `json:"volumes"`
	Bytes         int64  `json:"bytes"`
	DataBytes     int64  `json:"data_bytes"`
	MetadataBytes int64  `json:"metadata_bytes"`
	JournalBytes  int64  `json:"journal_bytes"`
	ParityBytes   int64  `json:"parity_bytes"` // of the three before
	IndexBytes    int64  `json:"index_bytes"`
	Blobs         int64  `json:"blobs"`
	RawBytes      int64  `json:"raw_bytes"`

	VolumeList []volumeObject `json:"volume_list,omitempty"` // with --verbose
}

func (p *program) runStats(ctx context.Context) error {
	return p.withStore(ctx, "stats", func(st *store.Store) error {
		s, err := st.Stats(ctx)
		if err != nil {
			return err
		}
		var volumes []store.VolumeInfo
		if p.global.verbose {
			if volumes, err = st.Volumes(ctx); err != nil {
				return err
			}
		}
		if p.global.json {
			return p.out.object(statsObject{
				st.Dir(), s.StoreID, jsonTime(s.Created), s.Encrypted, s.KeySlots, s.Datasets, s.Snapshots, s.Volumes, s.Bytes,
				s.DataBytes, s.MetaBytes, s.JournalBytes, s.ParityBytes, s.IndexBytes, s.Blobs, s.RawBytes,
				newVolumeObjects(volumes),
			})
		}
		if err := p.printStats(st.Dir(), s); err != nil || !p.global.verbose {
			return err
		}
		return p.printVolumeList(volumes)
	})
}

func (p *program) printStats(dir string, s store.Stats) error {
	encrypted := "encrypted, " + count(int64(s.KeySlots), "key slot", "key slots")
	if !s.Encrypted {
		encrypted = "not encrypted"
	}
	ratio := ""
	if s.Bytes > 0 {
		ratio = fmt.Sprintf(", %.2f times what is stored", float64(s.RawBytes)/float64(s.Bytes))
	}
	for _, line := range [][2]string{
		{"store", p.out.name(dir) + " (" + s.StoreID + ")"},
		{"made", p.localTime(s.Created) + ", " + encrypted},
		{"holds", count(int64(s.Snapshots), "snapshot", "snapshots") + " of " + count(int64(s.Datasets), "dataset", "datasets")},
		{"contents", formatSize(s.RawBytes) + " in " + count(s.Blobs, "blob", "blobs") + ratio},
		{"stored", fmt.Sprintf("%s in %s: data %s, metadata %s, journal %s", formatSize(s.Bytes), count(int64(s.Volumes), "volume", "volumes"),
			formatSize(s.DataBytes), formatSize(s.MetaBytes), formatSize(s.JournalBytes))},
		{"parity", formatSize(s.ParityBytes) + " of it" + share(s.ParityBytes, s.Bytes)},
		{"index", formatSize(s.IndexBytes) + ", can be rebuilt"},
	} {
		if err := p.out.printf("%-9s %s\n", line[0], line[1]); err != nil {
			return err
		}
	}
	return nil
}

// share says what part of the whole that is.
func share(n, of int64) string {
	if n == 0 || of == 0 {
		return ""
	}
	return fmt.Sprintf(", %.1f %%", 100*float64(n)/float64(of))
}
