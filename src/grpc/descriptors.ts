/**
 * File descriptors fit to be sent by reflection.
 *
 * Called by `reflection.ts`. protobufjs names the hidden message of a map field after the field (`Parameters`); protoc, and every
 * client that checks, wants `ParametersEntry`: grpcurl refuses the whole file otherwise.
 */
import descriptor, { type IDescriptorProto, type IFileDescriptorProto } from 'protobufjs/ext/descriptor.js';
import type { Protos } from './proto.js';

// A CommonJS module that names its exports at run time: only its default can be imported.
const { FileDescriptorProto } = descriptor;

/** One entry per distinct file of `protos`, in the shape that @grpc/reflection reads. */
export function reflectedFiles(protos: Protos): Protos {
  const files = new Map<string, Buffer>();
  for (const definition of Object.values(protos)) {
    if (!Array.isArray(definition.fileDescriptorProtos)) continue;
    for (const bytes of definition.fileDescriptorProtos as Buffer[]) {
      const file: IFileDescriptorProto = FileDescriptorProto.decode(bytes).toJSON();
      if (file.name === undefined || files.has(file.name)) continue;
      for (const message of file.messageType ?? []) nameMapEntries(message, `.${file.package}.${message.name}`);
      files.set(file.name, Buffer.from(FileDescriptorProto.encode(FileDescriptorProto.fromObject(file)).finish()));
    }
  }
  const entry = { format: 'Protocol Buffer 3 DescriptorProto', type: {}, fileDescriptorProtos: [...files.values()] };
  return { files: entry } as unknown as Protos;
}

function nameMapEntries(message: IDescriptorProto, fullName: string): void {
  for (const nested of message.nestedType ?? []) {
    if (nested.options?.mapEntry !== true) {
      nameMapEntries(nested, `${fullName}.${nested.name}`);
      continue;
    }
    const field = message.field?.find(({ typeName }) => typeName === nested.name);
    if (!field?.name) continue;
    nested.name = `${field.name.replace(/(?:^|_)(.)/g, (_, letter: string) => letter.toUpperCase())}Entry`;
    field.typeName = `${fullName}.${nested.name}`;
  }
}
