/** Reads just enough of FileDescriptorProtos to name their messages. */
import { Field, Type } from 'protobufjs';

interface MessageDescriptor {
  readonly name: string;
  readonly nested: MessageDescriptor[];
}
interface FileDescriptor {
  readonly package: string;
  readonly message: MessageDescriptor[];
}

const descriptorType = new Type('DescriptorProto')
  .add(new Field('name', 1, 'string'))
  .add(new Field('nested', 3, 'DescriptorProto', 'repeated'));
const fileType = new Type('FileDescriptorProto')
  .add(new Field('package', 2, 'string'))
  .add(new Field('message', 4, 'DescriptorProto', 'repeated'))
  .add(descriptorType);

export function decodeFileDescriptors(files: Uint8Array[]): FileDescriptor[] {
  return files.map((bytes) => fileType.decode(bytes) as never as FileDescriptor);
}

/** Full names of all messages, nested ones too. */
export function messageNames(files: FileDescriptor[]): string[] {
  const names: string[] = [];
  const walk = (scope: string, messages: MessageDescriptor[]): void => {
    for (const { name, nested } of messages) {
      names.push(`${scope}.${name}`);
      walk(`${scope}.${name}`, nested);
    }
  };
  for (const file of files) walk(file.package, file.message);
  return names;
}
