package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"snapfs/snapshot"
	"snapfs/store"
)

func (p *program) datasetCommand() *cli.Command {
	return &cli.Command{
		Name: "dataset", Usage: "list and rename datasets",
		Description: about("A dataset is what is protected: a name for a host and its paths, or for a stream. Its snapshots form one timeline.",
			"snapfs dataset list", "snapfs dataset rename etc server-etc"),
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list datasets",
				Description: about("Shows for each dataset how many snapshots it has, the newest of them, and where it comes from.", "snapfs dataset list"),
				Action: action(0, 0, func(c *cli.Context, _ []string) error {
					return p.runDatasetList(c.Context)
				}),
			},
			{
				Name: "rename", ArgsUsage: "OLD NEW", Usage: "give a dataset another name",
				Description: about("All its snapshots go with it. The next backup must be told the new name with --dataset.", "snapfs dataset rename etc server-etc"),
				Action: action(2, 2, func(c *cli.Context, args []string) error {
					return p.runDatasetRename(c.Context, args[0], args[1])
				}),
			},
		},
	}
}

// datasetObject is a dataset in JSON.
type datasetObject struct {
	Name      string   `json:"name"`
	Snapshots int      `json:"snapshots"`
	Newest    *string  `json:"newest"`
	Time      *string  `json:"time"`
	Host      string   `json:"host"`
	Paths     []string `json:"paths"`
	Base64    []string `json:"paths_base64,omitempty"`
	Bytes     uint64   `json:"bytes"`
	Entries   uint64   `json:"entries"`
}

func (p *program) runDatasetList(ctx context.Context) error {
	return p.withStore(ctx, "list of datasets", func(st *store.Store) error {
		state, err := st.State(ctx)
		if err != nil {
			return err
		}
		list, err := snapshot.List(ctx, st, snapshot.Filter{})
		if err != nil {
			return err
		}
		objects := datasetObjects(state, list)
		if p.global.json {
			return p.out.object(objects)
		}
		t := newTable("DATASET", ">SNAPSHOTS", "NEWEST", ">SIZE", "SOURCE")
		for _, d := range objects {
			newest, source := "", ""
			if d.Newest != nil {
				newest, source = *d.Newest, d.Host+":"+joinPaths(d.Paths)
			}
			t.add(d.Name, formatCount(int64(d.Snapshots)), newest, formatSize(int64(d.Bytes)), p.out.name(source))
		}
		return t.write(p.out)
	})
}

func joinPaths(paths []string) string {
	switch len(paths) {
	case 0:
		return ""
	case 1:
		return paths[0]
	}
	return paths[0] + " and " + formatCount(int64(len(paths)-1)) + " more"
}

// datasetObjects describes the datasets of the state by their snapshots, which stand in timeline order.
func datasetObjects(state *store.State, list []snapshot.Listed) []datasetObject {
	objects := []datasetObject{}
	byNumber := map[uint32]int{}
	for i, d := range state.Datasets {
		byNumber[d.Number] = i
		objects = append(objects, datasetObject{Name: d.Name, Paths: []string{}})
	}
	for _, l := range list {
		o := &objects[byNumber[l.DatasetNumber]]
		name, at := l.Name, jsonTime(l.Start)
		o.Snapshots++
		o.Newest, o.Time = &name, &at
		o.Host, o.Bytes, o.Entries = l.Summary.Host, l.Summary.Bytes, l.Summary.Entries
		o.Paths, o.Base64 = orEmpty(l.Summary.Paths), base64Paths(l.Summary.Paths)
	}
	return objects
}

func (p *program) runDatasetRename(ctx context.Context, from, to string) error {
	if err := snapshot.DatasetName(to); err != nil {
		return asUsage(err)
	}
	return p.withStore(ctx, "rename of dataset "+from, func(st *store.Store) error {
		return st.RenameDataset(ctx, from, to)
	})
}
