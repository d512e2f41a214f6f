package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Files are where a configuration and the files it names are read from. The
// zero value is anywhere.
type Files struct {
	dir string // absolute; empty: anywhere
}

// Within confines reading to dir and what is below it: other paths are refused,
// and so are symbolic links that lead out of it or are absolute (os.Root). dir
// itself is trusted, and looked up anew each time, so that it may be a link that
// is switched. What an operator mounts or hard-links into dir is inside.
func Within(dir string) (Files, error) {
	if dir == "" {
		return Files{}, errors.New("no directory is named, which would confine nothing")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return Files{}, err
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return Files{}, err
	}
	return Files{abs}, root.Close()
}

// Read returns the bytes of the configuration at path.
func (f Files) Read(path string) ([]byte, error) { return f.read(path, maxFile) }

// Hold reports whether a file at path could be read if there was one: whether
// its directory, or what there is of it, is within bounds.
func (f Files) Hold(path string) bool {
	if f.dir == "" {
		return true
	}
	root, rel, err := f.enter(path)
	if err != nil {
		return false
	}
	defer root.Close()
	for err = fs.ErrNotExist; errors.Is(err, fs.ErrNotExist) && rel != "."; {
		rel = filepath.Dir(rel)
		_, err = root.Stat(rel)
	}
	return err == nil
}

// Beneath reports whether path, on the way to which there are no symbolic links,
// is below the directory that reading is confined to.
func (f Files) Beneath(path string) bool {
	if f.dir == "" {
		return true
	}
	dir, err := filepath.EvalSymlinks(f.dir)
	if err != nil {
		return false
	}
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != "." && filepath.IsLocal(rel)
}

// enter opens the directory of a confinement and returns path relative to it.
func (f Files) enter(path string) (*os.Root, string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, "", err
	}
	rel, err := filepath.Rel(f.dir, abs)
	if err != nil || !filepath.IsLocal(rel) {
		return nil, "", fmt.Errorf("%s is not in %s, and --confine allows nothing else", abs, f.dir)
	}
	root, err := os.OpenRoot(f.dir)
	return root, rel, err
}

// open opens path for reading, without waiting for the other end of a pipe.
func (f Files) open(path string) (*os.File, error) {
	const flags = os.O_RDONLY | syscall.O_NONBLOCK
	if f.dir == "" {
		return os.OpenFile(path, flags, 0)
	}
	root, rel, err := f.enter(path)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	file, err := root.OpenFile(rel, flags, 0)
	if _, system := errors.AsType[syscall.Errno](err); err != nil && !system {
		return nil, fmt.Errorf("%s is reached through a symbolic link that leads out of %s or is absolute, and --confine allows neither", path, f.dir)
	}
	return file, err
}

// read returns the bytes of a regular file of at most limit bytes.
func (f Files) read(path string, limit int64) ([]byte, error) {
	file, err := f.open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if info.Size() == 0 { // some files below /proc have more, and wait for it: /proc/kmsg
		return []byte{}, nil
	}
	b, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s is larger than %s", path, formatSize(limit))
	}
	return b, nil
}
