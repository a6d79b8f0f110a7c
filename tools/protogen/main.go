// Command protogen makes Go code from a protobuf file with protoc-gen-go and protoc-gen-go-grpc, without protoc:
//
//	protogen FILE.proto FOLDER PLUGIN...
//
// It compiles the file and hands what it read to each plugin (a path of a program), as protoc would. The code goes into
// the folder, in files whose names begin with zz_gen_.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "protogen:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) < 3 {
		return errors.New("usage: protogen FILE.proto FOLDER PLUGIN...")
	}
	source, folder := args[0], args[1]
	request, err := compile(ctx, source)
	if err != nil {
		return err
	}
	for _, plugin := range args[2:] {
		if err := generate(ctx, plugin, request, folder); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(plugin), err)
		}
	}
	return nil
}

// compile reads a protobuf file, with its comments, which become those of the code.
func compile(ctx context.Context, path string) ([]byte, error) {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{filepath.Dir(path)}}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	name := filepath.Base(path)
	files, err := compiler.Compile(ctx, name)
	if err != nil {
		return nil, err
	}
	request := &pluginpb.CodeGeneratorRequest{
		FileToGenerate: []string{name},
		Parameter:      proto.String("paths=source_relative"),
	}
	for _, file := range files {
		imports := file.Imports()
		for i := range imports.Len() {
			request.ProtoFile = append(request.ProtoFile, protodesc.ToFileDescriptorProto(imports.Get(i).FileDescriptor))
		}
		request.ProtoFile = append(request.ProtoFile, protodesc.ToFileDescriptorProto(file))
	}
	return proto.Marshal(request)
}

// generate runs a plugin and writes what it answers.
func generate(ctx context.Context, plugin string, request []byte, folder string) error {
	command := exec.CommandContext(ctx, plugin)
	command.Stdin = bytes.NewReader(request)
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		return err
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(output, &response); err != nil {
		return err
	}
	if response.Error != nil {
		return errors.New(response.GetError())
	}
	for _, file := range response.GetFile() {
		path := filepath.Join(folder, "zz_gen_"+filepath.Base(file.GetName()))
		if err := os.WriteFile(path, []byte(file.GetContent()), 0o644); err != nil {
			return err
		}
	}
	return nil
}
