package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// freshTool is snapfs with a store that holds nothing but the newest state.
type freshTool struct{ snapfsTool }

func (freshTool) name() string { return "fresh store" }

const (
	agedFiles = 20_000
	agedKept  = 30 // snapshots
	agedPrune = 10 // rounds between prunes
)

// age compares a store that has seen so many rounds of changes, each with a backup and now and then with a prune, with a
// fresh one of the same contents.
func age(ctx context.Context, s settings, bin string, rounds int) error {
	c := &corpus{name: fmt.Sprintf("%d small files after %d rounds of changes and prunes", agedFiles, rounds), dir: filepath.Join(s.work, "src-aged")}
	if err := makeSmall(c.dir, agedFiles); err != nil {
		return err
	}
	aged, fresh := snapfsTool{bin}, freshTool{snapfsTool{bin}}
	res := newResults(c, []tool{aged, fresh})
	repo := filepath.Join(s.work, "repo-aged")
	defer removeAll(repo, repo+".key")
	if err := aged.init(ctx, repo); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "bench: %s\n", c.name)
	rng := rand.New(rand.NewPCG(3, 4))
	for n := range rounds {
		if _, err := command(ctx, aged.env(repo), aged.backup(repo, c.dir)...); err != nil {
			return err
		}
		if n%agedPrune == agedPrune-1 {
			u, err := command(ctx, aged.env(repo), bin, "forget", "--quiet", "--keep-last", fmt.Sprint(agedKept), "--prune")
			if err != nil {
				return err
			}
			res.seconds("forget and prune", aged.name(), u.wall)
		}
		if err := churn(c.dir, rng); err != nil {
			return err
		}
	}
	freshRepo := filepath.Join(s.work, "repo-fresh")
	defer removeAll(freshRepo, freshRepo+".key")
	if err := fresh.init(ctx, freshRepo); err != nil {
		return err
	}
	if err := c.survey(); err != nil {
		return err
	}
	for range max(s.runs, 3) {
		if err := measureAged(ctx, s, c, fresh, freshRepo, res); err != nil {
			return err
		}
		if err := measureAged(ctx, s, c, aged, repo, res); err != nil {
			return err
		}
	}
	res.print(os.Stdout)
	return nil
}

func measureAged(ctx context.Context, s settings, c *corpus, t tool, repo string, res *results) error {
	if _, err := command(ctx, t.env(repo), t.backup(repo, c.dir)...); err != nil {
		return err
	}
	res.bytes("store size", t.name(), treeSize(repo))
	files, err := os.ReadDir(filepath.Join(repo, "volumes"))
	if err != nil {
		return err
	}
	res.add("volumes", t.name(), float64(len(files)), func(v float64) string { return fmt.Sprintf("%.0f", v) })
	timed := func(line string, _ bool, args []string) (usage, error) {
		dropCaches()
		u, err := command(ctx, t.env(repo), args...)
		res.seconds(line, t.name(), u.wall)
		return u, err
	}
	if err := measureRestore(s, c, t, repo, timed); err != nil {
		return err
	}
	return measureMount(ctx, s, c, t, repo, res)
}

// churn writes half a per cent of the files anew, or removes them.
func churn(dir string, rng *rand.Rand) error {
	for range agedFiles / 200 {
		i := rng.IntN(agedFiles)
		path := filepath.Join(dir, fmt.Sprintf("%03d", i/10000), fmt.Sprintf("%02d", i/100%100), fmt.Sprintf("file-%d.txt", i))
		data := make([]byte, 100+rng.IntN(16<<10))
		for i := range data {
			data[i] = 'a' + byte(rng.IntN(8))
		}
		if rng.IntN(4) == 0 {
			_ = os.Remove(path) // or gone already
			continue
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
