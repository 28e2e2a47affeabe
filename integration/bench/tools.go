package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// tool is a backup program.
type tool interface {
	name() string
	// init makes a repository at dir.
	init(ctx context.Context, dir string) error
	// backup, restore and mount return the command to measure; none: it has nothing like that.
	backup(dir, source string) []string
	restore(dir, source, to string) []string
	mount(dir, at string) []string
	env(dir string) []string
	// parity is how many bytes of a repository are there only to heal others.
	parity(ctx context.Context, dir string) int64
	// view finds the newest snapshot's copy of source below the mountpoint.
	view(at, source string) (string, error)
}

func newTool(name, bin string) (tool, error) {
	switch name {
	case "snapfs":
		if _, err := os.Stat(bin); err != nil {
			return nil, fmt.Errorf("%w: run 'make build' first", err)
		}
		return snapfsTool{bin}, nil
	case "restic":
		_, err := exec.LookPath(name)
		return resticTool{}, err
	case "borg":
		_, err := exec.LookPath(name)
		return borgTool{}, err
	case copyName:
		return copyTool{}, nil
	}
	return nil, fmt.Errorf("tool %q is not known", name)
}

type snapfsTool struct{ bin string }

func (snapfsTool) name() string { return "snapfs" }
func (t snapfsTool) init(ctx context.Context, dir string) error {
	_, err := command(ctx, t.env(dir), t.bin, "init", "--new-key-file", dir+".key")
	return err
}
func (t snapfsTool) env(dir string) []string {
	return []string{"SNAPFS_STORE=" + dir, "SNAPFS_KEY_FILE=" + dir + ".key"}
}
func (t snapfsTool) parity(ctx context.Context, dir string) int64 {
	cmd := exec.CommandContext(ctx, t.bin, "stats", "--json")
	cmd.Env = append(os.Environ(), t.env(dir)...)
	out, err := cmd.Output()
	var stats struct {
		Parity int64 `json:"parity_bytes"`
	}
	if err != nil || json.Unmarshal(out, &stats) != nil {
		return 0
	}
	return stats.Parity
}
func (t snapfsTool) backup(_, source string) []string {
	return []string{t.bin, "backup", "--quiet", "--dataset", "bench", source}
}
func (t snapfsTool) restore(_, _, to string) []string {
	return []string{t.bin, "restore", "--quiet", "bench", "--to", to}
}
func (t snapfsTool) mount(_, at string) []string { return []string{t.bin, "mount", at} }
func (t snapfsTool) view(at, _ string) (string, error) {
	return filepath.EvalSymlinks(filepath.Join(at, "bench", "latest"))
}

type resticTool struct{}

func (resticTool) name() string                         { return "restic" }
func (resticTool) parity(context.Context, string) int64 { return 0 }
func (t resticTool) init(ctx context.Context, dir string) error {
	_, err := command(ctx, t.env(dir), "restic", "-q", "init")
	return err
}
func (resticTool) env(dir string) []string {
	return []string{"RESTIC_REPOSITORY=" + dir, "RESTIC_PASSWORD=bench", "RESTIC_CACHE_DIR=" + dir + ".cache"}
}
func (resticTool) backup(_, source string) []string {
	return []string{"restic", "-q", "backup", source}
}
func (resticTool) restore(_, _, to string) []string {
	return []string{"restic", "-q", "restore", "latest", "--target", to}
}
func (resticTool) mount(_, at string) []string { return []string{"restic", "-q", "mount", at} }
func (resticTool) view(at, source string) (string, error) {
	dir, err := filepath.EvalSymlinks(filepath.Join(at, "snapshots", "latest"))
	return filepath.Join(dir, source), err
}

type borgTool struct{}

func (borgTool) name() string                         { return "borg" }
func (borgTool) parity(context.Context, string) int64 { return 0 }
func (t borgTool) init(ctx context.Context, dir string) error {
	_, err := command(ctx, t.env(dir), "borg", "init", "-e", "repokey-blake2")
	return err
}
func (borgTool) env(dir string) []string {
	return []string{"BORG_REPO=" + dir, "BORG_PASSPHRASE=bench", "BORG_CACHE_DIR=" + dir + ".cache", "BORG_CONFIG_DIR=" + dir + ".config",
		"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes"}
}
func (borgTool) backup(_, source string) []string {
	return []string{"borg", "create", "::run-" + time.Now().Format("150405.000000"), source}
}
func (borgTool) restore(_, _, to string) []string {
	return []string{"sh", "-c", `cd "$0" && borg extract "::$(borg list --short --last 1)"`, to}
}
func (borgTool) mount(_, at string) []string {
	return []string{"borg", "mount", "-f", "--last", "1", "::", at}
}
func (borgTool) view(at, source string) (string, error) {
	entries, err := os.ReadDir(at)
	if err != nil || len(entries) == 0 {
		return "", fmt.Errorf("nothing mounted: %w", err)
	}
	return filepath.Join(at, entries[len(entries)-1].Name(), source), nil
}

// copyName is the name of copyTool. It is no peer: no ratio is taken of it.
const copyName = "cp -a"

// copyTool copies the tree and reads the copy: what the machine's own file system does with the same data.
type copyTool struct{}

func (copyTool) name() string                             { return copyName }
func (copyTool) parity(context.Context, string) int64     { return 0 }
func (copyTool) init(_ context.Context, dir string) error { return os.Mkdir(dir, 0o755) }
func (copyTool) env(string) []string                      { return nil }
func (copyTool) backup(dir, source string) []string {
	if _, err := os.Lstat(filepath.Join(dir, "tree")); err == nil {
		return nil // a second copy has no parent
	}
	return []string{"cp", "-a", source, filepath.Join(dir, "tree")}
}
func (copyTool) restore(dir, _, to string) []string {
	return []string{"cp", "-a", filepath.Join(dir, "tree"), to}
}
func (copyTool) mount(string, string) []string { return nil }
func (copyTool) view(at, _ string) (string, error) {
	return filepath.Join(filepath.Dir(at), "repo-"+copyName, "tree"), nil
}
