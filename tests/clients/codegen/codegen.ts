// region config
import type { CodegenConfig } from "@graphql-codegen/cli";

export default {
  schema: "../../../graphql/schema.graphql",
  documents: "../../../graphql/operations/*.graphql", // and your own
  generates: {
    "./gql/": {
      preset: "client",
      // The fragments of these documents are parts of documents, not of components.
      presetConfig: { fragmentMasking: false },
      config: {
        scalars: { DateTime: "string", ID: "string" },
        strictScalars: true,
        enumType: "string-literal",
        futureProofEnums: true, // more kinds will come: TypeScript asks for the default branch
        useTypeImports: true,
      },
    },
  },
} satisfies CodegenConfig;
// endregion
