package archive

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"snapfs/store/volume"
)

// input is a VOLUME argument that has been opened: a file or device that can be read anywhere, or a pipe.
type input struct {
	name  string    // for people
	named bool      // the caller named it, and did not find it in a directory
	file  *os.File  // nil: a pipe without one
	pipe  io.Reader // nil: file can be read anywhere
	tape  bool      // a character device
	piped bool      // file is a copy of what came through a pipe
	size  int64     // of what can be read anywhere
	rest  bool      // behind the volume may lie what a device held before
	kept  *rawCopy  // of a pipe; or nil
}

// openInputs opens what the arguments name. A pipe is opened only when it is its turn: opening a FIFO waits for its writer.
func openInputs(args []string, stdin io.Reader) (list []*input, err error) {
	defer func() {
		if err != nil {
			closeInputs(list)
		}
	}()
	for _, arg := range args {
		if arg == "-" {
			list = append(list, &input{name: "standard input", named: true, pipe: &lazyPipe{r: stdin}})
			continue
		}
		info, err := os.Stat(arg)
		if err != nil {
			return list, err
		}
		if !info.IsDir() {
			in, err := openInput(arg, info)
			if err != nil {
				return list, err
			}
			in.named = true
			list = append(list, in)
			continue
		}
		found, err := openDirectory(arg)
		list = append(list, found...)
		if err != nil {
			return list, err
		}
	}
	return list, nil
}

// openDirectory opens the volumes in a directory, by name; other files are passed over. A file whose beginning is damaged
// counts if it ends like a volume, or is named like one.
func openDirectory(dir string) (list []*input, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return list, err
		}
		in, err := openInput(filepath.Join(dir, e.Name()), info)
		if err != nil {
			return list, err
		}
		if !looksLikeVolume(in) {
			_ = in.file.Close()
			continue
		}
		list = append(list, in)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: %w: no volume is in this directory", dir, ErrNoVolume)
	}
	return list, nil
}

// volumeSuffix ends the names of files that volumes are written to.
const volumeSuffix = ".snapfs"

func looksLikeVolume(in *input) bool {
	_, _, err := volume.ReadLabel(in.file, in.size)
	if err == nil || errors.Is(err, volume.ErrChecksum) || errors.Is(err, volume.ErrNewerVersion) {
		return true
	}
	_, err = volume.ReadTrailer(in.file, in.size)
	return err == nil || in.size > 0 && filepath.Ext(in.name) == volumeSuffix
}

// openInput opens a file or device; of a pipe only the name is kept.
func openInput(path string, info os.FileInfo) (*input, error) {
	in := &input{name: path}
	mode := info.Mode()
	if mode&(os.ModeNamedPipe|os.ModeSocket) != 0 || mode&os.ModeCharDevice != 0 {
		in.pipe, in.tape = &lazyPipe{path: path}, mode&os.ModeCharDevice != 0
		return in, nil
	}
	var err error
	if in.file, err = os.Open(path); err != nil {
		return nil, err
	}
	if in.size = info.Size(); mode&os.ModeDevice != 0 {
		in.rest = true
		in.size, err = in.file.Seek(0, io.SeekEnd)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: size: %w", path, err), in.file.Close())
	}
	return in, nil
}

// lazyPipe is a pipe that ends once: a terminal, a FIFO or a tape may give more to who reads on, and that is something else. FIFOs and character
// devices are opened by the first read.
type lazyPipe struct {
	path   string
	r      io.Reader       // nil: not opened
	file   *os.File        // to be closed
	ended  error           // what all further reads say
	broken func(err error) // is told of an error of the medium, which ends it like its end
}

// Read reads; the end of a tape file, a block larger than the buffer and the like come as the kernel tells them.
func (p *lazyPipe) Read(b []byte) (n int, err error) {
	if p.ended != nil {
		return 0, p.ended
	}
	if p.r == nil {
		if p.file, err = os.Open(p.path); err != nil {
			return 0, err
		}
		p.r = p.file
	}
	n, err = p.r.Read(b)
	if errors.Is(err, errIO) {
		if p.broken != nil {
			p.broken(err)
		}
		err = io.EOF
	}
	p.ended = err
	return n, err
}

func (p *lazyPipe) close() error {
	if p.file == nil {
		return nil
	}
	return p.file.Close()
}

// watchPipes has errors of media told.
func watchPipes(list []*input, broken func(in *input, err error)) {
	for _, in := range list {
		if p, ok := in.pipe.(*lazyPipe); ok {
			p.broken = func(err error) { broken(in, err) }
		}
	}
}

func closeInputs(list []*input) {
	for _, in := range list {
		if in.file != nil {
			_ = in.file.Close() // it was only read
		}
		if p, ok := in.pipe.(*lazyPipe); ok {
			_ = p.close()
		}
		if in.kept != nil {
			in.kept.drop()
		}
	}
}

// patient reads a file from front to back with zeros for sectors that cannot be read.
type patient struct {
	r   io.ReaderAt
	pos int64
	end int64
}

// sectorSize is the piece in which unreadable bytes are stepped over.
const sectorSize = 4096

func (p *patient) Read(b []byte) (int, error) {
	if p.pos >= p.end {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), p.end-p.pos)]
	n, err := p.r.ReadAt(b, p.pos)
	if n == 0 && errors.Is(err, syscall.EIO) {
		n, err = min(len(b), sectorSize-int(p.pos%sectorSize)), nil
		if m, again := p.r.ReadAt(b[:n], p.pos); again != nil {
			clear(b[m:n])
		}
	}
	p.pos += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}
